//! Settings that a state depends on: recorded in every commit, and compared at a restart.
//!
//! A pane of ten seconds is no pane of a minute, and a sum is no count. Functions cannot be compared: a changed closure is
//! not found here.

use crate::RunError;
use crate::checkpoint::records::Settings;
use crate::error::Site;

/// The settings of a watermark that an operator derives from that of its inputs.
pub(crate) fn of_derived() -> Settings {
    recorded(&[("watermark", "derived".to_owned())])
}

/// The settings of a node as a commit records them.
pub(crate) fn recorded(settings: &[(&'static str, String)]) -> Settings {
    settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// Refuses the state of a uid that other settings made. `what` is "its state" or "its watermark".
pub(super) fn check_settings(
    what: &str,
    uid: &str,
    site: &Site,
    was: &Settings,
    is: &Settings,
) -> Result<(), RunError> {
    let changes = changes(was, is);
    if changes.is_empty() {
        return Ok(());
    }
    Err(RunError::Restore {
        site: site.clone(),
        problem: format!(
            "{what} in the checkpoint (uid `{uid}`) was made with other settings: {}. Keep the old settings; or drop \
             the old state, with its open windows, by starting once with --drop-state {uid} \
             (`Options::with_drop_state`)",
            changes.join(", ")
        ),
    })
}

/// Every setting that differs, with its old and its new value.
fn changes(was: &Settings, is: &Settings) -> Vec<String> {
    let value = |settings: &Settings, name: &str| {
        settings.iter().find(|(of, _)| of == name).map(|(_, value)| value.clone())
    };
    let added = is.iter().filter(|(name, _)| value(was, name).is_none());
    let names = was.iter().chain(added).map(|(name, _)| name);
    let change = |name: &String| match (value(was, name), value(is, name)) {
        (Some(old), Some(new)) if old != new => Some(format!("{name} {old} → {new}")),
        (Some(old), None) => Some(format!("{name} {old} → none")),
        (None, Some(new)) => Some(format!("{name} none → {new}")),
        _ => None,
    };
    names.filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_differ_are_named_with_both_values() {
        let settings = |all: &[(&'static str, &str)]| {
            recorded(&all.iter().map(|(name, value)| (*name, (*value).to_owned())).collect::<Vec<_>>())
        };
        let was = settings(&[("window", "tumbling"), ("size", "10s"), ("offset", "0s")]);
        let is = settings(&[("window", "session"), ("gap", "5s")]);
        assert_eq!(
            changes(&was, &is),
            ["window tumbling → session", "size 10s → none", "offset 0s → none", "gap none → 5s"]
        );
        assert!(changes(&was, &was).is_empty());
    }
}
