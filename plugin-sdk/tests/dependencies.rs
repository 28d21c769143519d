//! What every plugin carries because of the SDK.

use std::process::Command;

/// A component links these; a longer list has to be worth it. (What only runs while compiling, the
/// derives and the bindings' generator, is not in it.)
#[test]
fn few_crates_are_linked_into_a_plugin() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--package", "switchboard-plugin"])
        .args([
            "--edges",
            "normal,no-proc-macro",
            "--target",
            "wasm32-wasip2",
        ])
        .args(["--prefix", "none", "--format", "{lib}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        tree.status.success(),
        "{}",
        String::from_utf8_lossy(&tree.stderr)
    );
    let tree = String::from_utf8(tree.stdout).unwrap();
    let mut linked: Vec<&str> = tree.lines().filter(|line| !line.is_empty()).collect();
    linked.sort_unstable();
    linked.dedup();
    let expected = [
        "itoa",
        "memchr",
        "serde",
        "serde_core",
        "serde_json",
        "switchboard_plugin",
        "wit_bindgen",
        "zmij",
    ];
    assert_eq!(linked, expected);
}
