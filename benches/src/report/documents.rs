//! The places in documents that hold figures: finding them, and rewriting them.

use std::fs;
use std::path::{Path, PathBuf};

use super::Block;
use super::results::Results;

const BEGIN: &str = "<!-- from: ";
const CLOSE: &str = " -->";
const END: &str = "<!-- end -->";

/// A document as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its whole text.
    pub text: String,
    /// Places that kept their results although others were asked for, which lack what they are about; and why.
    pub kept: Vec<String>,
    /// How many places there are.
    pub places: usize,
}

/// The documents of a repository that may hold figures: texts in Markdown, and the guide in the facade's source.
///
/// # Errors
/// If a directory cannot be read.
pub fn all(repository: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    collect(repository, false, &["md"], &mut found)?;
    for (directory, kinds) in [("docs", ["md"].as_slice()), ("benches", &["md"]), ("src", &["md", "rs"])] {
        collect(&repository.join(directory), true, kinds, &mut found)?;
    }
    found.sort();
    Ok(found)
}

fn collect(directory: &Path, deep: bool, kinds: &[&str], found: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| format!("{}: {error}", directory.display()))?.path();
        let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
        if path.is_dir() {
            if deep && !path.ends_with("target") {
                collect(&path, deep, kinds, found)?;
            }
        } else if kinds.contains(&kind) {
            found.push(path);
        }
    }
    Ok(())
}

/// The document with its places rewritten, from the results that each names; or, if `newer` is given, from those,
/// where they have what a place is about. `root` leads from the document to the root of the repository, `results` is the
/// directory of all results.
///
/// # Errors
/// With the number of the line: if a place has no end, its block or its results are not there, or they lack what it is
/// about.
pub fn rewrite(document: &str, root: &str, results: &Path, newer: Option<&str>) -> Result<Written, String> {
    let mut written = Written { text: String::new(), kept: Vec::new(), places: 0 };
    let lines: Vec<&str> = document.lines().collect();
    let mut next = 0;
    while let Some(line) = lines.get(next) {
        next += 1;
        let Some(place) = Place::of(line) else {
            written.text.push_str(line);
            written.text.push('\n');
            continue;
        };
        let number = next;
        let said = |problem: String| format!("line {number}: {problem}");
        let Place { before, name, block } = place.map_err(said)?;
        let inside = lines.iter().skip(next);
        let is_end = |line: &&str| line.trim_start_matches(before).trim() == END;
        let length = inside.clone().position(is_end).filter(|length| {
            // Another place before the end is one too many.
            inside.take(*length).all(|line| Place::of(line).is_none())
        });
        next += 1 + length.ok_or_else(|| said(format!("no `{END}` follows")))?;
        let made = |name: &str| {
            block.make(&Results::named(results, name)?, root).map(|text| (name.to_owned(), text))
        };
        let (name, text) = match newer.filter(|newer| *newer != name).map(made) {
            None => made(name).map_err(said)?,
            Some(Ok(made)) => made,
            Some(Err(problem)) => {
                written.kept.push(format!("line {number}, {}: {problem}", block.name));
                made(name).map_err(said)?
            }
        };
        written.places += 1;
        let begin = format!("{BEGIN}{name} {}{CLOSE}", block.name);
        for line in [begin.as_str(), ""].into_iter().chain(text.lines()).chain(["", END]) {
            written.text.push_str(format!("{before}{line}").trim_end());
            written.text.push('\n');
        }
    }
    Ok(written)
}

/// How a document gets from where it is to the root of the repository: `../` for each directory.
#[must_use]
pub fn way_to_root(repository: &Path, document: &Path) -> String {
    let inside = document.strip_prefix(repository).unwrap_or(document);
    "../".repeat(inside.components().count().saturating_sub(1))
}

/// A line that begins a place.
struct Place<'a> {
    /// What comes before the marker, in a comment of source: it begins every line of the place.
    before: &'a str,
    name: &'a str,
    block: Block,
}

impl Place<'_> {
    fn of(line: &str) -> Option<Result<Place<'_>, String>> {
        let at = line.find(BEGIN)?;
        let (before, marker) = line.split_at(at);
        // In the middle of a line it is spoken of.
        if !matches!(before.trim(), "" | "//!" | "///") {
            return None;
        }
        let inside = marker.strip_prefix(BEGIN)?.trim_end().strip_suffix(CLOSE);
        let Some((name, block)) = inside.and_then(|inside| inside.split_once(' ')) else {
            return Some(Err(format!("a place begins with `{BEGIN}RESULTS BLOCK{CLOSE}`")));
        };
        Some(match Block::named(block) {
            Some(block) => Ok(Place { before, name, block }),
            None => Err(format!("there is no block `{block}`; `report --help` has a list")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::results;
    use super::*;

    const RATIO: &str =
        r#""job":"session","mode":"continuous","peer":"timely","workers":1,"times":0.5,"target":0.95"#;

    #[test]
    fn a_place_is_written_anew_and_the_rest_stays() {
        let (place, _) = results(&[("peers.jsonl", &[RATIO])]);
        let document = "a\n<!-- from: 2026-03-01-here peers -->\nold\n<!-- end -->\nb\n";
        let written = rewrite(document, "../", place.path(), None).unwrap();
        assert!(written.text.starts_with(
            "a\n<!-- from: 2026-03-01-here peers -->\n\n| job, 1 worker | timely, continuous |\n"
        ));
        assert!(
            written.text.ends_with("revision `abc`.\n\n<!-- end -->\nb\n") && !written.text.contains("old")
        );
        assert_eq!(rewrite(&written.text, "../", place.path(), None).unwrap(), written);
        assert_eq!((written.places, written.kept.len()), (1, 0));
    }

    #[test]
    fn a_place_in_a_comment_keeps_what_makes_it_one() {
        let (place, _) = results(&[("peers.jsonl", &[RATIO])]);
        let document = "//! <!-- from: 2026-03-01-here peers -->\n//! <!-- end -->\ncode\n";
        let text = rewrite(document, "", place.path(), None).unwrap().text;
        assert!(text.contains("-->\n//!\n//! | job") && text.ends_with("//! <!-- end -->\ncode\n"), "{text}");
        assert_eq!(rewrite(&text, "", place.path(), None).unwrap().text, text);
    }

    #[test]
    fn newer_results_are_taken_where_they_have_what_is_needed() {
        let (place, _) =
            results(&[("peers.jsonl", &[RATIO]), ("loop.jsonl", &[&RATIO.replace("timely", "loop")])]);
        let (other, _) = results(&[("peers.jsonl", &[&RATIO.replace("0.5", "0.75")])]);
        fs::rename(other.path().join("2026-03-01-here"), place.path().join("2026-03-02-here")).unwrap();
        let document = ["peers", "steps"]
            .map(|block| format!("<!-- from: 2026-03-01-here {block} -->\n<!-- end -->\n"))
            .concat();
        let written = rewrite(&document, "", place.path(), Some("2026-03-02-here")).unwrap();
        assert!(
            written.text.contains("<!-- from: 2026-03-02-here peers -->")
                && written.text.contains("| 0.75 |")
        );
        assert!(
            written.text.contains("<!-- from: 2026-03-01-here steps -->")
                && written.text.contains("| 0.50 |")
        );
        assert!(written.kept.len() == 1 && written.kept[0].starts_with("line 3, steps: loop.jsonl of"));
    }

    #[test]
    fn what_is_wrong_with_a_place_is_told_with_its_line() {
        let (place, _) = results(&[]);
        for (document, problem) in [
            ("a\n<!-- from: 2026-03-01-here peers -->\nb", "line 2: no `<!-- end -->` follows"),
            (
                "<!-- from: 2026-03-01-here peers -->\n<!-- from: 2026-03-01-here steps -->\n<!-- end -->",
                "line 1: no `<!-- end -->` follows",
            ),
            ("<!-- from: 2026-03-01-here pears -->\n<!-- end -->", "line 1: there is no block `pears`"),
            ("<!-- from: here -->\n<!-- end -->", "line 1: a place begins with"),
            ("<!-- from: 1999 peers -->\n<!-- end -->", "line 1: there are no results `1999`"),
        ] {
            let error = rewrite(document, "", place.path(), None).unwrap_err();
            assert!(error.starts_with(problem), "{error}");
        }
        let spoken = "Write `<!-- from: here peers -->` before it.\n";
        assert_eq!(rewrite(spoken, "", place.path(), None).unwrap().text, spoken);
    }

    #[test]
    fn links_lead_out_of_the_directory_of_a_document() {
        let root = Path::new("/r");
        assert_eq!(way_to_root(root, Path::new("/r/README.md")), "");
        assert_eq!(way_to_root(root, Path::new("/r/docs/a/b.md")), "../../");
    }
}
