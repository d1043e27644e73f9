//! Many requests of all kinds at once: whatever happens, nothing is lost and no limit is passed.

use super::*;

/// How many mixtures are tried per version of HTTP.
const SEEDS: u64 = 6;

/// A reproducible stream of numbers (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// Lets virtual time pass in steps, so that what happens in between can happen.
async fn pass(time: Duration) {
    for _ in 0..5 {
        tokio::time::advance(time / 5).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

async fn one(upstream: Upstream, path: &'static str, class: Class, leaves_after: Option<Duration>) {
    let request = ForwardRequest {
        class,
        ..bulk(path)
    };
    let exchange = async {
        if let Ok(response) = upstream.fetch(&request).await {
            // Cut short or whole: both are ends.
            let _ended = read(response).await;
        }
    };
    match leaves_after {
        None => exchange.await,
        Some(time) => drop(timeout(time, exchange).await),
    }
}

async fn mix(seed: u64, wire: Wire) {
    let site = Site::new(&[wire]).limits(|l| {
        l.connections_per_parent_max = 4;
        l.streams_per_connection_max = 3;
        l.waiting_max = 8;
        l.idle_timeout = Duration::from_millis(300);
        l.connect_timeout = Duration::from_millis(200);
    });
    let (upstream, parent) = (site.upstream(), &site.parents[0]);
    let mut dice = Dice(seed);
    let mut requests = JoinSet::new();
    for _ in 0..400 {
        match dice.below(12) {
            0 => parent.cut_connections(),
            1 => {
                let doors = [
                    Door::Open,
                    Door::Open,
                    Door::Refusing,
                    Door::Silent,
                    Door::Slamming,
                ];
                parent.set_door(doors[usize::try_from(dice.below(5)).unwrap()]);
            }
            2 => parent.release(usize::try_from(dice.below(4)).unwrap()),
            3 => pass(Duration::from_millis(dice.below(400))).await,
            4 => settle().await,
            _ => {
                let paths = ["/a", "/a", "/park", "/drip", "/hangup", "/status/500"];
                let path = paths[usize::try_from(dice.below(6)).unwrap()];
                let class = [Class::Bulk, Class::Parked][usize::from(dice.below(2) == 0)];
                let leaves = (dice.below(3) == 0).then(|| Duration::from_millis(dice.below(300)));
                requests.spawn(one(upstream.clone(), path, class, leaves));
            }
        }
        tokio::task::yield_now().await;
        for status in upstream.parents() {
            for pool in [status.parked, status.bulk] {
                assert!(pool.connections <= 4 && pool.waiting <= 8, "{pool:?}");
                assert!(pool.exchanges <= 12, "{pool:?}");
            }
        }
    }
    parent.set_door(Door::Open);
    parent.release(10_000);
    while let Some(ended) = requests.join_next().await {
        ended.unwrap();
    }
    settle().await;
    for class in [Class::Bulk, Class::Parked] {
        let request = ForwardRequest {
            class,
            ..bulk("/a")
        };
        let answers = start(&upstream, &request, 8).join_all().await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }
    settle().await;
    let status = &upstream.parents()[0];
    assert_eq!((status.parked.exchanges, status.bulk.exchanges), (0, 0));
    assert_eq!((status.parked.waiting, status.bulk.waiting), (0, 0));
    pass(Duration::from_secs(10)).await;
    let status = &upstream.parents()[0];
    assert_eq!((status.parked.connections, status.bulk.connections), (0, 0));
    assert_eq!(site.tasks.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn http1_pools_survive_any_mixture_of_leaving_cutting_and_refusing() {
    for seed in 0..SEEDS {
        println!("seed {seed}");
        mix(seed, HTTP1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn http2_pools_survive_any_mixture_of_leaving_cutting_and_refusing() {
    for seed in 0..SEEDS {
        println!("seed {seed}");
        mix(seed, HTTP2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_lags_behind_many_small_chunks_gets_the_whole_body() {
    // h2 ends connections whose unread DATA frames are many and small; these are as many as the window takes.
    let site = Site::new(&[HTTP2]);
    let upstream = site.upstream();
    let mut responses = Vec::new();
    for _ in 0..3 {
        responses.push(upstream.fetch(&bulk("/chunks")).await.unwrap());
    }
    // Virtual time stands still for as long as anything moves: now the windows are full or the bodies sent.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for response in responses {
        let body = read(response).await.unwrap();
        assert_eq!(body.len(), CHUNKS * CHUNK.len());
    }
    assert_eq!(site.parents[0].connections(), 1);
}
