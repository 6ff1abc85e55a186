//! Lists the public items of `tidemill`, one a line, by the paths of the facade: from the JSON that rustdoc writes for the crates
//! of the workspace. `ci/public-items.sh` runs it.
//!
//! A line has the kind and the path of an item; `impl` lines name the traits that a type implements, without auto traits and
//! blanket implementations. Hidden items are left out, and members are listed once, not in the prelude too.
#![allow(clippy::indexing_slicing, reason = "a field that a JSON value does not have is null")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use serde_json::Value;

/// The rustdoc JSON of a crate, with its items by path.
struct Crate {
    index: Value,
    root: String,
    ids: BTreeMap<String, String>,
    paths: Value,
}

fn main() -> ExitCode {
    match list(std::env::args().skip(1)) {
        Ok(items) => {
            items.iter().for_each(|item| println!("{item}"));
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("public_items: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the files, of which the first is that of the facade, and lists its items.
fn list(files: impl Iterator<Item = String>) -> Result<Vec<String>, String> {
    let crates = files.map(|file| read(&file)).collect::<Result<Vec<_>, _>>()?;
    let facade = crates.first().ok_or("name the JSON files, that of `tidemill` first")?;
    let mut lister = Lister { crates: &crates, items: BTreeSet::new(), open: Vec::new() };
    lister.module(facade, &facade.root, "tidemill");
    let mut items: Vec<_> = lister.items.into_iter().collect();
    items.sort_by_key(|item| item.rsplit(' ').next().map(str::to_owned));
    Ok(items)
}

fn read(file: &str) -> Result<Crate, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let mut json: Value = serde_json::from_str(&text).map_err(|error| format!("{file}: {error}"))?;
    let (index, paths) = (json["index"].take(), json["paths"].take());
    let root = json["root"].to_string();
    let local = paths.as_object().into_iter().flatten().filter(|(_, about)| about["crate_id"] == 0);
    let ids = local.map(|(id, about)| (path_of(about), id.clone())).collect();
    Ok(Crate { index, root, ids, paths })
}

/// Returns the path of an entry of `paths`.
fn path_of(about: &Value) -> String {
    let parts = about["path"].as_array().into_iter().flatten().filter_map(Value::as_str);
    parts.collect::<Vec<_>>().join("::")
}

struct Lister<'a> {
    crates: &'a [Crate],
    items: BTreeSet<String>,
    /// The items on the way from the root, so that a module that exports itself ends.
    open: Vec<String>,
}

impl<'a> Lister<'a> {
    fn module(&mut self, of: &'a Crate, id: &str, path: &str) {
        for child in ids(&of.index[id]["inner"]["module"]["items"]) {
            self.item(of, &child, path);
        }
    }

    /// Lists a child of the module at `parent`.
    fn item(&mut self, of: &'a Crate, id: &str, parent: &str) {
        let item = &of.index[id];
        if item["visibility"] != "public" {
            return;
        }
        let Some((kind, inner)) = item["inner"].as_object().and_then(|inner| inner.iter().next()) else {
            return;
        };
        if kind == "use" {
            return self.exported(of, inner, parent);
        }
        if let Some(name) = item["name"].as_str() {
            self.named(of, id, kind, inner, &format!("{parent}::{name}"));
        }
    }

    fn named(&mut self, of: &'a Crate, id: &str, kind: &str, inner: &'a Value, path: &str) {
        if self.open.iter().any(|open| open == path) {
            return;
        }
        self.open.push(path.to_owned());
        self.items.insert(format!("{kind} {path}"));
        let kind = if path.starts_with("tidemill::prelude::") { "member" } else { kind };
        match kind {
            "module" => self.module(of, id, path),
            "struct" => {
                self.members(of, &inner["kind"]["plain"]["fields"], "field", path);
                self.members(of, &inner["kind"]["tuple"], "field", path);
                self.impls(of, inner, path);
            }
            "enum" => {
                for variant in ids(&inner["variants"]) {
                    let Some(name) = of.index[&variant]["name"].as_str() else { continue };
                    let path = format!("{path}::{name}");
                    self.items.insert(format!("variant {path}"));
                    let fields = &of.index[&variant]["inner"]["variant"]["kind"]["struct"]["fields"];
                    for field in ids(fields).iter().filter_map(|field| of.index[field]["name"].as_str()) {
                        self.items.insert(format!("field {path}::{field}"));
                    }
                }
                self.impls(of, inner, path);
            }
            "trait" => {
                for member in ids(&inner["items"]) {
                    let about = &of.index[&member];
                    let Some(name) = about["name"].as_str() else { continue };
                    let kind = about["inner"].as_object().and_then(|inner| inner.keys().next());
                    self.items.insert(format!("{} {path}::{name}", kind.map_or("item", String::as_str)));
                }
            }
            _ => {}
        }
        self.open.pop();
    }

    /// Lists what a `pub use` exports, from this or another crate.
    fn exported(&mut self, of: &'a Crate, inner: &'a Value, parent: &str) {
        let (id, name) = (inner["id"].to_string(), inner["name"].as_str().unwrap_or_default());
        let (of, id) = if of.index.get(&id).is_some() {
            (of, id)
        } else {
            let path = path_of(&of.paths[&id]);
            let found = self.crates.iter().find_map(|other| Some((other, other.ids.get(&path)?.clone())));
            let Some(found) = found else {
                self.items.insert(format!("use {parent}::{name} = {path}"));
                return;
            };
            found
        };
        if inner["is_glob"] == true {
            return self.module(of, &id, parent);
        }
        let about = of.index[&id]["inner"].as_object().and_then(|inner| inner.iter().next());
        if let Some((kind, inner)) = about {
            self.named(of, &id, kind, inner, &format!("{parent}::{name}"));
        }
    }

    fn members(&mut self, of: &Crate, members: &Value, kind: &str, path: &str) {
        for member in ids(members).iter().map(|member| &of.index[member]) {
            if let (Some(name), true) = (member["name"].as_str(), member["visibility"] == "public") {
                self.items.insert(format!("{kind} {path}::{name}"));
            }
        }
    }

    /// Lists the methods of a type, and the traits that it implements.
    fn impls(&mut self, of: &Crate, inner: &Value, path: &str) {
        for block in ids(&inner["impls"]).iter().map(|block| &of.index[block]["inner"]["impl"]) {
            if block["is_synthetic"] == true || !block["blanket_impl"].is_null() {
                continue;
            }
            match block["trait"]["path"].as_str() {
                Some(name) => {
                    let name = name.rsplit("::").next().unwrap_or(name);
                    self.items.insert(format!("impl {name} for {path}"));
                }
                None => {
                    self.members(of, &block["items"], "item", path);
                }
            }
        }
    }
}

/// Returns the ids of a list of items.
fn ids(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(Value::to_string).collect()
}
