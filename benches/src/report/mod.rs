//! The figures in the documents, from raw results: a document marks where they go, and `report` writes them there.
//!
//! A line `<!-- from: DIRECTORY BLOCK -->` begins a place and `<!-- end -->` ends it ([`documents`]). What is between is
//! made from the files of `benches/results/DIRECTORY` ([`results`]), by the block of that name ([`BLOCKS`]).

mod allowances;
pub mod documents;
mod eviction;
pub mod grid;
mod latency;
mod nexmark;
mod peers;
pub mod results;
mod straggler;
mod words;

use results::Results;

/// Text for a place in a document, from the results of one directory.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// What a marker calls it.
    pub name: &'static str,
    /// What it says, and from which files.
    pub what: &'static str,
    make: fn(&Results, &str) -> Result<String, String>,
}

impl Block {
    /// The text, without a line break at its end. `root` leads from the document to the root of the repository.
    ///
    /// # Errors
    /// If the results lack what the block is about, or are void.
    pub fn make(&self, results: &Results, root: &str) -> Result<String, String> {
        (self.make)(results, root)
    }

    /// The block of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Block> {
        BLOCKS.into_iter().find(|block| block.name == name)
    }
}

/// All blocks.
pub const BLOCKS: [Block; 11] = [
    Block { name: "summary", what: "one line each about other engines and Nexmark", make: peers::summary },
    Block { name: "peers", what: "against other engines, job by job (peers.jsonl)", make: peers::table },
    Block { name: "steps", what: "stateless steps against a plain loop (loop.jsonl)", make: peers::steps },
    Block {
        name: "nexmark",
        what: "the queries, over Renoir and by themselves (nexmark.jsonl)",
        make: nexmark::table,
    },
    Block {
        name: "acceptance",
        what: "what was to be shown of latency (sweep.jsonl, latency.jsonl)",
        make: latency::acceptance,
    },
    Block {
        name: "curve",
        what: "latency by rate (the grid in latency.jsonl with its pictures, or sweep.jsonl)",
        make: latency::curve,
    },
    Block {
        name: "picture",
        what: "the keyed count of the grid (latency.jsonl and its pictures), or curve-1w.png",
        make: latency::picture,
    },
    Block {
        name: "allocators",
        what: "mimalloc against the system's (allocators.jsonl)",
        make: allowances::allocators,
    },
    Block {
        name: "pinning",
        what: "pinned workers against free ones (pinning.jsonl)",
        make: allowances::pinning,
    },
    Block {
        name: "eviction",
        what: "what operators with bounded state keep (eviction.jsonl)",
        make: eviction::table,
    },
    Block {
        name: "straggler",
        what: "a bounded job with a slow worker, over its ideal time (straggler.jsonl)",
        make: straggler::table,
    },
];
