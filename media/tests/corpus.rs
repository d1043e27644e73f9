//! Replays the fuzz corpus through the bodies of the fuzz targets, without a fuzzer.

#[allow(
    unreachable_pub,
    reason = "the fuzz workspace sees this file as a public module"
)]
#[path = "../../fuzz/src/media_bodies.rs"]
mod media_bodies;

use std::path::Path;

/// Replays every seed of a target.
fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let seeds = std::fs::read_dir(folder).expect("the target has a corpus");
    let mut replayed = 0;
    for seed in seeds {
        let path = seed.expect("the corpus can be listed").path();
        body(&std::fs::read(path).expect("a seed can be read"));
        replayed += 1;
    }
    assert!(replayed > 0, "the corpus of {target} is empty");
}

#[test]
fn every_playlist_seed_keeps_its_invariants() {
    replay("playlist", media_bodies::playlist);
}

#[test]
fn every_directives_seed_keeps_its_invariants() {
    replay("directives", media_bodies::directives);
}

#[test]
fn every_delta_seed_keeps_its_invariants() {
    replay("delta", media_bodies::delta);
}

#[test]
fn every_mpd_seed_keeps_its_invariants() {
    replay("mpd", media_bodies::mpd);
}

#[test]
fn every_uri_seed_keeps_its_invariants() {
    replay("uri", media_bodies::uri);
}
