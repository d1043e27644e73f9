//! Runs the lab origin on a port until it is stopped: `cargo run -p lab --example origin -- 8080`.
//!
//! Further arguments are fault rules, for example `'status=503@kind=partx3'`.

use lab::origin::{Origin, OriginConfig};

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "the example tells where to look")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().unwrap_or_default().parse().unwrap_or(8080);
    let mut config = OriginConfig::default();
    for rule in args {
        match rule.as_str() {
            "byte-ranges" => config.parts_as = lab::origin::PartsAs::ByteRanges,
            rule => config.faults.push(rule.parse()?),
        }
    }
    let running = Origin::bind(config, ([127, 0, 0, 1], port).into()).await?;
    println!("http://{}/live/index.m3u8", running.addr());
    tokio::signal::ctrl_c().await?;
    running.shutdown().await;
    Ok(())
}
