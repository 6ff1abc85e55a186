//! Figures in the documents come from raw results.

use std::process::Command;

#[test]
fn the_documents_say_what_the_results_say() {
    let output = Command::new(env!("CARGO_BIN_EXE_report")).arg("--check").output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "{said}");
}
