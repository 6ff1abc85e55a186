//! Sessions of users, with the pages that they visited.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::prelude::*;

use crate::check;
use crate::input::{self, Visit};

#[derive(Clone, Serialize, Deserialize)]
struct Session {
    user: u32,
    seconds: i64,
    pages: Vec<String>,
}

pub fn run(scratch: &Path, options: &Options) -> Result<(), Box<dyn Error>> {
    let visits: Vec<Visit> = input::visits(60).into_iter().filter(|visit| visit.user < 3).collect();
    let out = scratch.join("sessions");
    let graph = Graph::new("sessions");
    graph
        .source(memory(visits))
        .with_watermark(|visit| visit.at, Duration::from_secs(2))
        .key_by(|visit| visit.user)
        .window(session(Duration::from_secs(15)))
        .fold(
            Vec::new(),
            |pages: &mut Vec<String>, visit: &Visit| pages.push(visit.page.clone()),
            |pages, more| pages.extend(more),
        )
        .append()
        .map(|row| Session {
            user: row.key,
            seconds: (row.window.end.as_micros() - row.window.start.as_micros()) / 1_000_000,
            pages: row.value,
        })
        .sink(json_lines_dir(&out));
    graph.run(options.clone())?;

    let mut rows = Vec::new();
    for file in std::fs::read_dir(&out)? {
        let file = file?;
        if !file.file_name().to_string_lossy().starts_with('.') {
            rows.extend(std::fs::read_to_string(file.path())?.lines().map(str::to_owned));
        }
    }
    let session = |user: u32| {
        let pages: Vec<String> = input::visits(60)
            .into_iter()
            .filter(|visit| visit.user == user)
            .map(|visit| visit.page)
            .collect();
        format!("{{\"user\":{user},\"seconds\":65,\"pages\":{pages:?}}}").replace("\", \"", "\",\"")
    };
    check(rows, (0..3).map(session).collect())
}
