//! A leaderboard for each game that another thread reads while scores change.
//!
//! ```sh
//! cargo run --example live_leaderboard
//! ```
//!
//! Players play games and their scores change, up and down: a table has the newest score of each player in each game, and `top_k` the
//! best five of each game. Both are queryable, so the thread of a user interface reads them at any time. What it reads is of one
//! committed epoch, and this program checks that: each leaderboard that it sees is the one that plain loops compute from the
//! scores of that epoch.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::connectors::ChannelSender;
use tidemill::prelude::*;
use tidemill::table::{ReadError, TableReader, Tables};

const GAMES: [&str; 4] = ["chess", "darts", "go", "poker"];
const PLAYERS: u64 = 40;
const CHANGES: u64 = 20_000;
const BEST: usize = 5;

/// The score of a player in a game; points come first, so that rows are sorted by them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
struct Score {
    points: u64,
    player: String,
}

/// A change of a score.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Change {
    game: String,
    score: Score,
}

fn change(number: u64) -> Change {
    let random = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let game = GAMES.get((random % 4) as usize).copied().unwrap_or_default().to_owned();
    Change {
        game,
        score: Score { points: random / 4 % 10_000, player: format!("player {}", random / 64 % PLAYERS) },
    }
}

/// The newest scores, and the leaderboards.
fn build(changes: Stream<Change>) {
    let scores = changes.key_by(|change| (change.game.clone(), change.score.player.clone()));
    let scores = scores.into_table_with(|change| Some(change.score)).uid("scores");
    scores.queryable("scores");
    scores.rekey(|(game, _), score| (game, score)).top_k(BEST).queryable("leaderboard");
}

/// Compares each leaderboard with the scores of the same epoch; returns how many rows it has compared.
fn check(tables: &Tables) -> Result<usize, Box<dyn Error>> {
    let scores = tables.table::<(String, String), Score>("scores")?;
    let leaderboard = tables.table::<String, Score>("leaderboard")?;
    let mut rows = 0;
    for game in GAMES {
        let of_game = scores.range((game.to_owned(), String::new())..(format!("{game}~"), String::new()));
        let mut of_game: Vec<Score> = of_game.map(|(_, score)| score.clone()).collect();
        of_game.sort();
        let expected = of_game.split_off(of_game.len().saturating_sub(BEST));
        let found = leaderboard.rows(game);
        if found != expected {
            return Err(
                format!("epoch {:?}, {game}: {found:?} instead of {expected:?}", tables.epoch()).into()
            );
        }
        rows += found.len();
    }
    Ok(rows)
}

/// The user interface: reads until all changes are in.
fn watch(reader: &TableReader, reads: &AtomicU64, is_over: impl Fn() -> bool) -> Result<u64, String> {
    let (mut epochs, mut last) = (0, None);
    while !is_over() {
        let tables = reader.tables();
        check(&tables).map_err(|error| error.to_string())?;
        epochs += u64::from(tables.epoch() != last);
        last = tables.epoch();
        reads.fetch_add(1, Ordering::Release);
    }
    Ok(epochs)
}

/// The players: a hundred changes, then they wait until somebody has looked.
fn play(players: &ChannelSender<Change>, reads: &AtomicU64) -> Result<(), String> {
    for number in 0..CHANGES {
        while reads.load(Ordering::Acquire) < number / 100 {
            thread::yield_now();
        }
        players.send(change(number)).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        let graph = Graph::new("live leaderboard");
        let (players, changes) = channel(64);
        build(graph.source(changes).boxed());
        let options = Options::default().with_mode(mode).with_workers(2);
        let query = graph.start(options.with_checkpoint_interval(Duration::from_millis(5)))?;

        let (reader, reads) = (query.table_reader(), AtomicU64::new(0));
        let epochs = thread::scope(|scope| {
            let reads = &reads;
            let playing = scope.spawn(move || play(&players, reads));
            let watching = scope.spawn(|| watch(&reader, reads, || query.is_finished()));
            let (played, epochs) = (playing.join(), watching.join());
            played.map_err(|_| "the players have panicked")??;
            epochs.map_err(|_| "the reader has panicked".to_owned())?
        })?;
        query.wait()?;

        // At the end, everything is as in plain loops.
        let mut newest = BTreeMap::new();
        for Change { game, score } in (0..CHANGES).map(change) {
            newest.insert((game, score.player.clone()), score);
        }
        let tables = reader.tables();
        let scores = tables.table::<(String, String), Score>("scores")?;
        if !scores.iter().eq(newest.iter()) || check(&tables)? != GAMES.len() * BEST {
            return Err(format!("{mode}: other scores at the end").into());
        }
        let unknown: Result<_, ReadError> = reader.table::<String, Score>("leader board");
        println!("{mode}: {} reads of {epochs} epochs", reads.load(Ordering::Relaxed));
        println!("  the best of chess: {:?}", tables.table::<String, Score>("leaderboard")?.get("chess"));
        println!("  {}", unknown.map_or_else(|error| error.to_string(), |_| String::new()));
    }
    Ok(())
}
