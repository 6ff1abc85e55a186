//! Lines of a log: parsed, filtered, split by whether they could be read, into two sinks. No state.

use std::error::Error;
use std::path::Path;

use tidemill::prelude::*;

use crate::check;

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Request {
    method: String,
    path: String,
    status: u16,
}

fn parse(line: &str) -> Option<Request> {
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    Some(Request { method, path, status: words.next()?.parse().ok()? })
}

pub fn run(scratch: &Path, options: &Options) -> Result<(), Box<dyn Error>> {
    let lines: String = (0..40)
        .map(|n| match n % 4 {
            0 => format!("GET /item/{n} 200\n"),
            1 => format!("POST /order/{n} 500\n"),
            2 => format!("GET /static/{n}.css 200\n"),
            _ => "nonsense\n".to_owned(),
        })
        .collect();
    std::fs::write(scratch.join("access.log"), lines)?;
    let graph = Graph::new("access log");
    let ((bad_sink, bad), (failed_sink, failed)) = (memory_sink(), memory_sink());
    let (requests, nonsense) = graph
        .source(text_files(scratch.join("access.log").display().to_string()).bounded())
        .filter(|line| !line.is_empty())
        .split(|line| match parse(line.as_ref()) {
            Some(request) => Either::Left(request),
            None => Either::Right(line.to_string()),
        });
    requests
        .filter(|request| !request.path.starts_with("/static/"))
        .map(|request| Request { path: request.path.replace("/item/", "/i/"), ..request })
        .filter(|request| request.status >= 500)
        .map(|request| (request.method, request.path))
        .sink(failed_sink);
    nonsense.sink(bad_sink);
    graph.run(options.clone())?;

    check(bad.snapshot(), vec!["nonsense".to_owned(); 10])?;
    let expected: Vec<_> = (0..10).map(|n| ("POST".to_owned(), format!("/order/{}", 4 * n + 1))).collect();
    check(failed.snapshot(), expected)
}
