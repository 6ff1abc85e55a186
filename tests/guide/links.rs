//! Every link in the documents has a target: a file of the repository, and a heading in it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::markdown::{anchors, links};
use crate::{markdown_files, root};

fn documents() -> Vec<PathBuf> {
    let at_root =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name));
    at_root.into_iter().chain(markdown_files(&root().join("docs"))).collect()
}

/// What is wrong with a link, if anything; pages of the web are not fetched.
fn problem(document: &Path, text: &str, target: &str) -> Option<String> {
    if target.starts_with("https://") || target.starts_with("http://") {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let file = document.parent().unwrap().join(path);
    if !path.is_empty() && !file.exists() {
        return Some(format!("there is no {}", file.display()));
    }
    let guide = root().join("docs/guide/src");
    if document.starts_with(&guide) && !path.is_empty() && !file.canonicalize().unwrap().starts_with(&guide) {
        return Some("leaves the book; name the file in backquotes instead".to_owned());
    }
    let anchor = anchor?;
    let known =
        if path.is_empty() { anchors(text) } else { anchors(&std::fs::read_to_string(&file).unwrap()) };
    (!known.iter().any(|known| known == anchor))
        .then(|| format!("no such heading; there are {}", known.join(", ")))
}

#[test]
fn links_of_documents_lead_to_files_and_headings() {
    let mut problems = Vec::new();
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            if let Some(problem) = problem(&document, &text, &link.target) {
                problems.push(format!("{}:{}: {}: {problem}", document.display(), link.line, link.target));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn broken_links_are_found() {
    let (document, text) = (root().join("README.md"), "# Title\n");
    for (target, part) in
        [("docs/none.md", "there is no"), ("#none", "there are title"), ("CHANGELOG.md#none", "no such")]
    {
        assert!(problem(&document, text, target).unwrap().contains(part), "{target}");
    }
    assert_eq!(problem(&document, text, "#title"), None);
    let chapter = root().join("docs/guide/src/faq.md");
    assert!(problem(&chapter, text, "../../performance.md").unwrap().contains("leaves the book"));
}

#[test]
fn chapters_of_the_guide_are_in_summary_and_tested() {
    let guide = root().join("docs/guide/src");
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut chapters: BTreeSet<_> = markdown_files(&guide).iter().map(name).collect();
    assert!(chapters.remove("SUMMARY.md"));
    let summary = links(&std::fs::read_to_string(guide.join("SUMMARY.md")).unwrap());
    let listed: BTreeSet<_> = summary.into_iter().map(|link| link.target).collect();
    assert_eq!(listed, chapters);
    for chapter in chapters {
        let has_programs = std::fs::read_to_string(guide.join(&chapter)).unwrap().contains("```rust");
        let is_tested = include_str!("../../src/guide.rs").contains(&format!("/{chapter}\""));
        assert!(is_tested || !has_programs, "{chapter} has programs, and src/guide.rs does not name it");
    }
}
