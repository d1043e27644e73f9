//! The one binary `seawall`: thin commands over the libraries.
//!
//! What is here: arguments, signals, output, exit codes, and the demonstration. Who calls it: operators and tests.
//! What it calls: `edge` and `shield` run nodes, `lab` plays origin and viewers.
//! Deliberately not here: anything a library could want. Every command has two steps: what was typed
//! (`...Arguments`), and what the program needs (`...Plan`), which is checked before anything starts.

mod arguments;
mod demo;
mod explain;
mod load;
mod node;
mod origin;
mod output;
mod progress;
mod purge;
mod stop;
mod swarm;
mod values;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use values::Misuse;

// TLS records are written into memory that is still in a near cache: decision 0017.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!("error: {error:#}"));
            ExitCode::from(code_of(&error))
        }
    }
}

/// Returns what a failure means for a program that started this one.
fn code_of(error: &anyhow::Error) -> u8 {
    if let Some(unfinished) = error.downcast_ref::<purge::Unfinished>() {
        return unfinished.code();
    }
    if error.is::<Misuse>() {
        MISUSED
    } else {
        COULD_NOT
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    output::start_log(&arguments.log)?;
    let stop = stop::on_signals()?;
    match arguments.command {
        Command::Demo(typed) => demo::run(demo::Plan::of(typed)?, &stop),
        Command::Run(typed) => node::run_alone(node::AlonePlan::of(typed)?, &stop),
        Command::Edge(typed) => node::run_edge(&typed, &stop),
        Command::Shield(typed) => node::run_shield(&typed, &stop),
        Command::Check(typed) => node::check(&typed),
        Command::Explain(typed) => explain::run(&explain::Plan::of(typed)?),
        Command::Origin(typed) => origin::run(origin::Plan::of(typed)?, &stop),
        Command::Swarm(typed) => swarm::run(&swarm::Plan::of(typed)?, &stop),
        Command::Purge(typed) => purge::run(purge::Plan::of(*typed)?, &stop),
        Command::PurgeApi(typed) => purge::run_server(&typed, &stop),
        Command::Load(typed) => load::run_load(&load::LoadPlan::of(typed)?, &stop),
        Command::Hold(typed) => load::run_hold(&load::HoldPlan::of(typed)?, &stop),
    }
}

/// The program could not do what was asked: a port in use, an unreachable URL.
const COULD_NOT: u8 = 1;
/// What was asked makes no sense: an unknown option, a configuration with problems. Also clap's own.
const MISUSED: u8 = 2;
