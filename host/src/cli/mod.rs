//! The command line: one file a subcommand.

mod cluster;
pub mod config;
mod dev;
mod dev_page;
mod plugin;
mod run;
mod serve;
mod state;
mod token;
mod workspace;

use crate::config::Flags;
use clap::{Args, Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};

/// A realtime server for Socket.IO clients whose behaviour is plugged in: plugins are WebAssembly
/// components, and are replaced while clients stay connected.
#[derive(Debug, Parser)]
#[command(name = "switchboard", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the plugins of a folder, and swap them when their files change.
    Serve(Flags),
    /// Build the plugins of this cargo workspace, serve them with a page to try them on, and
    /// rebuild and swap them on save.
    Dev(DevArgs),
    /// Make a token to try things with, signed with the configured secret.
    Token(token::TokenArgs),
    /// Check a plugin's file, or begin a new plugin.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Look at stored state, change it, or move it from one backend to another.
    #[command(subcommand)]
    State(state::StateCommand),
    /// Look at the hosts that share a Redis.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Show or check the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Args)]
struct DevArgs {
    #[command(flatten)]
    flags: Flags,
    /// Serve only this plugin of the workspace (may be given several times); otherwise all that are
    /// not marked `test = true`.
    #[arg(long = "package", short = 'p', value_name = "NAME")]
    packages: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum PluginCommand {
    /// Tell whether the host would load this file, and if not, why.
    Check {
        /// The component, a `.wasm` file.
        file: PathBuf,
        #[command(flatten)]
        flags: Flags,
    },
    /// Make a crate for a plugin of this name: it builds, and has a test that passes.
    New {
        /// The plugin's name: lower-case letters, digits and `-`.
        name: String,
        /// The folder to make it in; the name when absent.
        #[arg(long, value_name = "FOLDER")]
        path: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Print each host with its connections and the versions of its plugins, and how Redis is.
    Status(Flags),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the configuration in force, with where each value comes from. Secrets are left out.
    Show(Flags),
    /// Check the configuration and list everything that is wrong.
    Check(Flags),
}

/// Runs the command that the arguments name; returns the exit code: 0, or 1 for a failure, or 2 for
/// wrong arguments or a wrong configuration.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(flags) => serve::serve(&flags),
        Command::Dev(args) => dev::dev(&args.flags, &args.packages),
        Command::Token(args) => token::token(args),
        Command::Plugin(PluginCommand::Check { file, flags }) => plugin::check(&file, &flags),
        Command::Plugin(PluginCommand::New { name, path }) => plugin::new(&name, path.as_deref()),
        Command::State(command) => state::state(command),
        Command::Cluster(ClusterCommand::Status(flags)) => cluster::status(&flags),
        Command::Config(ConfigCommand::Show(flags)) => config::show(&flags),
        Command::Config(ConfigCommand::Check(flags)) => config::check(&flags),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr().lock(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
