//! The command line, parsed by hand: four commands do not pay for a parser's build time.

/// The text of `cargo xtask --help`.
const HELP: &str = "\
The commands of this repository.

Usage: cargo xtask <COMMAND> [OPTIONS]

Commands:
  build   Build the host in release, and every plugin as a component
  test    Build, then run every test; installs what they need
  lint    Formatting, clippy (host and wasm), documentation, layers, licences
  bench   Build, then run the benchmarks

`cargo xtask <COMMAND> --help` says more. CARGO_TARGET_DIR is respected.
";

const BUILD_HELP: &str = "\
Build the host in release, and every plugin as a component.

Usage: cargo xtask build [--host | --plugins]

  --host      Only the host, target/release/switchboard
  --plugins   Only the plugins: target/plugins/NAME.wasm, and for the crates
              under tests/plugins target/test-plugins/NAME.wasm

A plugin is a workspace member with `[package.metadata.switchboard] plugin = true`.
The target wasm32-wasip2 is added by rustup when it is missing.
";

const TEST_HELP: &str = "\
Build, then run every test.

Usage: cargo xtask test [--rust | --js] [FILTER]

  --rust    Only the tests of the crates (doc tests too)
  --js      Only the black-box tests in tests/, against the release build
  FILTER    Only tests whose name contains FILTER. For the black-box tests: the
            files whose name contains it, or else the tests that it matches

Installs what is missing: the target wasm32-wasip2, the packages of tests/, and,
for root on Debian and Ubuntu, Node, Redis and Chromium.
";

const LINT_HELP: &str = "\
Check what CI checks before it runs the tests.

Usage: cargo xtask lint

Layers and tidiness of the sources, rustfmt, clippy for the host and for the plugins
on wasm32-wasip2, rustdoc, each with warnings as errors, and cargo-deny where it is
installed; advisories where their database can be reached.
";

const BENCH_HELP: &str = "\
Build, then run the benchmarks.

Usage: cargo xtask bench [FILTER]

  FILTER    Only benchmarks whose name contains FILTER

Runs the bench targets of every crate.
";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// Print this text and succeed.
    Help(&'static str),
    /// Run this command.
    Run(Command),
}

/// A command with its options.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Build(BuildOptions),
    Test(TestOptions),
    Lint,
    Bench(BenchOptions),
}

/// What `build` builds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BuildOptions {
    pub(crate) host: bool,
    pub(crate) plugins: bool,
}

/// Which tests `test` runs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TestOptions {
    pub(crate) rust: bool,
    pub(crate) js: bool,
    pub(crate) filter: Option<String>,
}

/// Which benchmarks `bench` runs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BenchOptions {
    pub(crate) filter: Option<String>,
}

/// Parses the arguments after the program's name.
///
/// # Errors
///
/// A sentence naming the argument that was not understood.
pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Parsed, String> {
    let mut arguments = arguments.into_iter();
    let Some(command) = arguments.next() else {
        return Err("no command given".into());
    };
    let rest: Vec<String> = arguments.collect();
    let help = rest.iter().any(|argument| is_help(argument));
    match command.as_str() {
        argument if is_help(argument) || argument == "help" => Ok(Parsed::Help(HELP)),
        "build" if help => Ok(Parsed::Help(BUILD_HELP)),
        "test" if help => Ok(Parsed::Help(TEST_HELP)),
        "lint" if help => Ok(Parsed::Help(LINT_HELP)),
        "bench" if help => Ok(Parsed::Help(BENCH_HELP)),
        "build" => build(&rest),
        "test" => test(&rest),
        "lint" => match rest.first() {
            Some(argument) => Err(not_understood("lint", argument)),
            None => Ok(Parsed::Run(Command::Lint)),
        },
        "bench" => {
            let mut filter = None;
            for argument in &rest {
                take_filter("bench", &mut filter, argument)?;
            }
            Ok(Parsed::Run(Command::Bench(BenchOptions { filter })))
        }
        other => Err(format!("there is no command `{other}`")),
    }
}

fn build(rest: &[String]) -> Result<Parsed, String> {
    let (mut host, mut plugins) = (false, false);
    for argument in rest {
        match argument.as_str() {
            "--host" => host = true,
            "--plugins" => plugins = true,
            other => return Err(not_understood("build", other)),
        }
    }
    let both = host == plugins;
    Ok(Parsed::Run(Command::Build(BuildOptions {
        host: host || both,
        plugins: plugins || both,
    })))
}

fn test(rest: &[String]) -> Result<Parsed, String> {
    let (mut rust, mut js, mut filter) = (false, false, None);
    for argument in rest {
        match argument.as_str() {
            "--rust" => rust = true,
            "--js" => js = true,
            _ => take_filter("test", &mut filter, argument)?,
        }
    }
    let both = rust == js;
    Ok(Parsed::Run(Command::Test(TestOptions {
        rust: rust || both,
        js: js || both,
        filter,
    })))
}

fn take_filter(command: &str, filter: &mut Option<String>, argument: &str) -> Result<(), String> {
    if argument.starts_with('-') {
        return Err(not_understood(command, argument));
    }
    if let Some(first) = filter {
        return Err(format!(
            "`{command}` takes one filter, got `{first}` and `{argument}`"
        ));
    }
    *filter = Some(argument.into());
    Ok(())
}

fn is_help(argument: &str) -> bool {
    matches!(argument, "-h" | "--help")
}

fn not_understood(command: &str, argument: &str) -> String {
    format!("`{command}` does not understand `{argument}`; see `cargo xtask {command} --help`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Parsed, String> {
        parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn no_choice_means_everything() {
        let all = BuildOptions {
            host: true,
            plugins: true,
        };
        assert_eq!(parsed("build"), Ok(Parsed::Run(Command::Build(all))));
        let all = TestOptions {
            rust: true,
            js: true,
            filter: None,
        };
        assert_eq!(parsed("test"), Ok(Parsed::Run(Command::Test(all))));
    }

    #[test]
    fn one_choice_leaves_the_other_out() {
        let expected = TestOptions {
            rust: false,
            js: true,
            filter: Some("swap".into()),
        };
        assert_eq!(
            parsed("test --js swap"),
            Ok(Parsed::Run(Command::Test(expected)))
        );
        let expected = BuildOptions {
            host: false,
            plugins: true,
        };
        assert_eq!(
            parsed("build --plugins"),
            Ok(Parsed::Run(Command::Build(expected)))
        );
    }

    #[test]
    fn what_is_not_understood_is_named() {
        assert!(parsed("test --fast").unwrap_err().contains("`--fast`"));
        assert!(parsed("bench one two").unwrap_err().contains("`two`"));
        assert!(parsed("lint now").unwrap_err().contains("`now`"));
        assert!(parsed("deploy").unwrap_err().contains("`deploy`"));
        assert!(parsed("").is_err());
    }

    #[test]
    fn every_command_has_help_that_names_it() {
        for command in ["build", "test", "lint", "bench"] {
            let Ok(Parsed::Help(text)) = parsed(&format!("{command} --help")) else {
                panic!("{command} has no help");
            };
            assert!(text.contains(&format!("cargo xtask {command}")), "{text}");
            assert!(HELP.contains(&format!("\n  {command}")), "{HELP}");
        }
    }
}
