//! The links and headings of a Markdown text, as far as the documents of this repository use Markdown.

use std::collections::HashMap;

/// A link, with the line that it is in, from 1.
#[derive(Debug, PartialEq)]
pub(crate) struct Link {
    pub(crate) line: usize,
    pub(crate) target: String,
}

/// The lines outside fenced code, with their numbers from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        (!in_code && !fence).then_some((index + 1, line))
    })
}

/// A line without what is between backquotes.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

/// Returns the targets of all inline links and pictures.
pub(crate) fn links(text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    for (line, content) in prose(text) {
        for rest in without_code(content).split("](").skip(1) {
            let target = rest.split(')').next().unwrap_or_default().trim().to_owned();
            links.push(Link { line, target });
        }
    }
    links
}

/// Returns the anchors of all headings, as mdBook and code hosts derive them.
pub(crate) fn anchors(text: &str) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let headings = prose(text).filter_map(|(_, line)| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len() && title.starts_with(' ')).then(|| title.trim())
    });
    headings
        .map(|title| {
            let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            let anchor: String =
                kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect();
            let count = seen.entry(anchor.clone()).or_default();
            *count += 1;
            if *count == 1 { anchor } else { format!("{anchor}-{}", *count - 1) }
        })
        .collect()
}

#[test]
fn links_in_code_are_not_links() {
    let text = "see [a](b.md#c), `[x](y)` and ![p](p.png)\n```\n[no](no)\n```\n";
    let targets: Vec<_> = links(text).into_iter().map(|link| (link.line, link.target)).collect();
    assert_eq!(targets, [(1, "b.md#c".to_owned()), (1, "p.png".to_owned())]);
}

#[test]
fn anchors_drop_punctuation_and_count_repetitions() {
    let text = "# Which mode?\n## A `Sink`'s way\n#no heading\n## Which mode?\n";
    assert_eq!(anchors(text), ["which-mode", "a-sinks-way", "which-mode-1"]);
}
