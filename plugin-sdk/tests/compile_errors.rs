//! What an author is told who writes a handler that is none.

#[test]
fn wrong_handlers_are_explained() {
    trybuild::TestCases::new().compile_fail("tests/compile-fail/*.rs");
}
