//! The commands of this repository: a laptop runs what CI runs.
//!
//! | module | what it holds |
//! |---|---|
//! | `arguments` | the command line |
//! | `workspace` | what cargo knows: folders, plugins, benchmarks |
//! | `process` | running a program so that its failure can be understood |
//! | `build`, `test`, `lint`, `bench` | one command each |
//! | `tools` | what the tests need installed: the wasm target, Node, Chromium |
//! | `source` | a Rust lexer, just good enough to find paths |
//! | `layers`, `tidy` | the rules of the source tree, as tests and as part of `lint` |

mod arguments;
mod bench;
mod build;
mod layers;
mod lint;
mod process;
mod source;
mod test;
mod tidy;
mod tools;
mod workspace;

use std::io::Write as _;
use std::process::ExitCode;

use arguments::{Command, Parsed};
use workspace::Workspace;

fn main() -> ExitCode {
    let command = match arguments::parse(std::env::args().skip(1)) {
        Ok(Parsed::Run(command)) => command,
        Ok(Parsed::Help(text)) => {
            // A reader that has gone away (`cargo xtask --help | head`) is no failure.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("error: {message}");
            eprintln!("       `cargo xtask --help` lists the commands");
            return ExitCode::from(2);
        }
    };
    match run(&command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    match command {
        Command::Build(options) => build::run(&workspace, options),
        Command::Test(options) => test::run(&workspace, options),
        Command::Lint => lint::run(&workspace),
        Command::Bench(options) => bench::run(&workspace, options),
    }
}
