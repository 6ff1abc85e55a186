//! README's first program is the example that its first command runs.

#[test]
fn first_program_of_readme_is_its_example() {
    let (_, example) = include_str!("../../examples/page_views.rs").split_once("\n\n").unwrap();
    let readme = include_str!("../../README.md");
    let (_, program) = readme.split_once("```rust\n").unwrap();
    assert!(
        program.starts_with(&format!("{example}```\n")),
        "README has another program than examples/page_views.rs"
    );
    let (_, command) = readme.split_once("```console\n").unwrap();
    assert!(command.starts_with("$ cargo run --release --example page_views\n"), "{command}");
}
