//! Small rules of the source tree that no other tool knows.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::layers::rust_files;
use crate::source::{self, Token};
use crate::workspace::Workspace;

/// The folders of Rust sources that the rules are about.
const SOURCES: [&str; 6] = [
    "host",
    "plugin-sdk",
    "plugins",
    "examples",
    "tests/plugins",
    "xtask",
];

/// A longer file wants splitting.
const MAX_LINES: usize = 600;

/// File names that do not say what a reader will find.
const VAGUE: [&str; 8] = [
    "utils", "util", "common", "helpers", "helper", "manager", "misc", "shared",
];

/// The pages whose relative links must lead somewhere.
const PAGES: [&str; 3] = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"];

/// Checks everything, and returns what is wrong, a line each.
///
/// # Errors
///
/// When a file cannot be read.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for folder in SOURCES {
        for file in rust_files(&workspace.root.join(folder))? {
            let shown = workspace.shown(&file);
            complaints.extend(source_file(&shown, &read(&file)?));
        }
    }
    let readme = read(&workspace.root.join("README.md"))?;
    complaints.extend(examples(&workspace.root, &readme)?);
    complaints.extend(quotes(&workspace.root, &readme)?);
    for page in PAGES {
        let text = read(&workspace.root.join(page))?;
        complaints.extend(dead_links(&workspace.root, page, &text));
    }
    for package in &workspace.packages {
        let manifest = read(&package.folder.join("Cargo.toml"))?;
        complaints.extend(manifest_rules(
            &package.name,
            package.cdylib.is_some() && !package.plugin,
            &manifest,
        ));
    }
    Ok(complaints)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Complains about a source file that is too long, badly named, unfinished, or has tests switched off.
fn source_file(shown: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        complaints.push(format!(
            "{shown}: {lines} lines, of at most {MAX_LINES}: split it"
        ));
    }
    let vague = |part: &std::ffi::OsStr| VAGUE.iter().any(|name| part == *name);
    if Path::new(shown).with_extension("").iter().any(vague) {
        complaints.push(format!("{shown}: the name does not say what is in it"));
    }
    let tokens = source::tokens(text);
    for window in tokens.windows(3) {
        let [(line, first), (_, second), (_, third)] = window else {
            continue;
        };
        match (first, second, third) {
            (Token::Word("todo" | "unimplemented"), Token::Mark('!'), _) => {
                complaints.push(format!("{shown}:{line}: unfinished code"));
            }
            (Token::Mark('#'), Token::Mark('['), Token::Word("ignore")) => {
                complaints.push(format!(
                    "{shown}:{line}: a test that is ignored tests nothing; mend or delete it"
                ));
            }
            _ => {}
        }
    }
    complaints
}

/// Complains about examples that nobody can find from the README.
fn examples(root: &Path, readme: &str) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    let folder = root.join("examples");
    for entry in
        fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let name = entry?.file_name();
        let path = format!("examples/{}", name.to_string_lossy());
        if !readme.contains(&path) {
            complaints.push(format!("README.md: does not mention {path}"));
        }
    }
    complaints.sort();
    Ok(complaints)
}

/// Complains about code in the README that has drifted from the file it was taken from. A block is
/// tied to its file by `<!-- from PATH -->` on the line above, and every Rust block must be tied.
fn quotes(root: &Path, readme: &str) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for block in blocks(readme) {
        let Some(source) = block.source else {
            if block.language == "rust" {
                complaints.push(format!(
                    "README.md:{}: say which file this was taken from: `<!-- from PATH -->` above it",
                    block.line
                ));
            }
            continue;
        };
        let file = root.join(&source);
        if !file.is_file() {
            complaints.push(format!(
                "README.md:{}: there is no {}",
                block.line,
                source.display()
            ));
        } else if !read(&file)?.contains(block.text.trim_end()) {
            complaints.push(format!(
                "README.md:{}: this is not in {} any more",
                block.line,
                source.display()
            ));
        }
    }
    Ok(complaints)
}

/// A fenced block of a Markdown page.
#[derive(Debug, PartialEq, Eq)]
struct Block<'a> {
    /// The line of its opening fence, counted from 1.
    line: usize,
    language: &'a str,
    /// The file that the line above names.
    source: Option<PathBuf>,
    text: String,
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut open: Option<Block<'_>> = None;
    let mut above = "";
    for (number, text) in page.lines().enumerate() {
        match (&mut open, text.strip_prefix("```")) {
            (Some(_), Some("")) => blocks.extend(open.take()),
            (Some(block), _) => {
                block.text.push_str(text);
                block.text.push('\n');
            }
            (None, Some(language)) => {
                let source = above
                    .strip_prefix("<!-- from ")
                    .and_then(|rest| rest.strip_suffix(" -->"));
                let source = source.map(PathBuf::from);
                open = Some(Block {
                    line: number + 1,
                    language,
                    source,
                    text: String::new(),
                });
            }
            (None, None) => {}
        }
        above = text;
    }
    blocks
}

/// Complains about relative links that lead nowhere.
fn dead_links(root: &Path, page: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for link in line
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let path = link.split('#').next().unwrap_or_default();
            if path.is_empty() || link.contains("://") {
                continue;
            }
            if !root.join(path).exists() {
                complaints.push(format!(
                    "{page}:{}: the link `{link}` leads nowhere",
                    number + 1
                ));
            }
        }
    }
    complaints
}

/// Complains about a crate that escapes the workspace's lints, or a plugin that nobody would build.
fn manifest_rules(name: &str, unmarked_plugin: bool, manifest: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if !manifest.contains("[lints]\nworkspace = true") {
        complaints.push(format!(
            "{name}: its Cargo.toml lacks `[lints] workspace = true`"
        ));
    }
    if unmarked_plugin {
        complaints.push(format!(
            "{name}: a cdylib without `[package.metadata.switchboard] plugin = true` is built by nobody"
        ));
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        let complaints = check(&Workspace::load().unwrap()).unwrap();
        assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    }

    #[test]
    fn unfinished_and_ignored_code_is_found_with_its_line() {
        let found = source_file(
            "a.rs",
            "fn f() {\n    todo!()\n}\n#[ignore = \"slow\"]\nfn t() {}\n// todo!()\n",
        );
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("a.rs:2:") && found[1].starts_with("a.rs:4:"),
            "{found:?}"
        );
    }

    #[test]
    fn long_and_vaguely_named_files_are_found() {
        let found = source_file("host/src/utils.rs", &"\n".repeat(MAX_LINES + 1));
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(
            source_file("host/src/rooms.rs", &"\n".repeat(MAX_LINES)),
            Vec::<String>::new()
        );
    }

    #[test]
    fn blocks_know_their_language_and_their_source() {
        let page = "<!-- from a/b.rs -->\n```rust\nfn f() {}\n```\n```sh\nls\n```\n";
        let found = blocks(page);
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].line, found[0].language, found[0].text.as_str()),
            (2, "rust", "fn f() {}\n")
        );
        assert_eq!(found[0].source.as_deref(), Some(Path::new("a/b.rs")));
        assert_eq!((found[1].language, &found[1].source), ("sh", &None));
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = "[a](src/tidy.rs#top) [b](#here) [c](https://example.org/x)\n[d](src/gone.rs)";
        let found = dead_links(root, "README.md", text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("README.md:2:"), "{found:?}");
    }

    #[test]
    fn a_crate_without_the_lints_and_an_unmarked_plugin_are_found() {
        assert_eq!(manifest_rules("a", true, "[package]").len(), 2);
        assert!(manifest_rules("a", false, "[lints]\nworkspace = true\n").is_empty());
    }
}
