//! What an author is told who writes a handler that is none, and what the SDK depends on.

#[test]
fn wrong_handlers_are_explained() {
    trybuild::TestCases::new().compile_fail("tests/compile-fail/*.rs");
}

/// Every plugin builds these; a longer list has to be worth it.
#[test]
fn the_dependencies_are_few() {
    let manifest: &str = include_str!("../Cargo.toml");
    let names: Vec<&str> = manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split([' ', '.', '=']).next())
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(names, ["serde", "serde_json", "wit-bindgen"]);
}
