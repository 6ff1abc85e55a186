//! Cuts each user's clicks into visits: a visit ends when the user has been silent for five minutes.
//!
//! ```sh
//! cargo run --example sessions
//! ```
//!
//! A session window has no fixed size. Every click at `t` keeps its session open until `t` plus the gap; a click that
//! comes out of order may join two sessions into one. Several aggregates, given as a tuple, are computed in one pass:
//! here the number of clicks and the last page.

use std::error::Error;
use std::time::Duration;

use tidemill::ParseTimeError;
use tidemill::aggregate::{Count, Max};
use tidemill::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Click {
    at: EventTime,
    user: String,
    page: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let clicks = vec![
        click("09:00", "ada", "/")?,
        click("09:01", "bob", "/")?,
        click("09:03", "ada", "/tea")?,
        click("09:10", "ada", "/")?, // seven minutes after the last one: another visit
        click("09:05", "bob", "/tea")?,
        click("09:12", "bob", "/")?,        // another visit of bob's, it seems …
        click("09:08", "bob", "/tea/mug")?, // … until this one, out of order, joins the two
        click("09:13", "ada", "/checkout")?,
    ];

    let graph = Graph::new("sessions");
    let (sink, table) = memory_sink();
    graph
        .source(memory(clicks))
        .with_watermark(|click| click.at, 10 * MINUTE)
        .key_by(|click| click.user.clone())
        .window(session(5 * MINUTE))
        .aggregate((Count::new(), Max::of(|click: &Click| (click.at, click.page.clone()))))
        .append()
        .sink(sink);
    graph.run(Options::default())?;

    let mut visits: Vec<_> = table
        .snapshot()
        .into_iter()
        .map(|row| {
            let (clicks, (last_click, page)) = row.value;
            (row.key, clock(row.window.start), clock(last_click), clicks, page)
        })
        .collect();
    visits.sort();
    println!("user  from   to     clicks  last page");
    for (user, from, to, clicks, page) in &visits {
        println!("{user:5} {from}  {to}  {clicks:>6}  {page}");
    }

    let expected = [
        ("ada", "09:00", "09:03", 2, "/tea"),
        ("ada", "09:10", "09:13", 2, "/checkout"),
        ("bob", "09:01", "09:12", 4, "/"),
    ];
    let visits: Vec<_> = visits
        .iter()
        .map(|(user, from, to, clicks, page)| (&**user, &**from, &**to, *clicks, &**page))
        .collect();
    if visits != expected {
        return Err("these are not the visits that there were".into());
    }
    println!("\nThree visits, as it should be.");
    Ok(())
}

fn click(clock: &str, user: &str, page: &str) -> Result<Click, ParseTimeError> {
    let at = format!("2026-03-01T{clock}:00Z").parse()?;
    Ok(Click { at, user: user.to_owned(), page: page.to_owned() })
}

/// The time of day of an instant.
fn clock(time: EventTime) -> String {
    time.to_string().chars().skip(11).take(5).collect()
}
