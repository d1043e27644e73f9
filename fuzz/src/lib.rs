//! What the targets for `media` do with their bytes.
//!
//! Those targets are one line each; `media/tests/corpus.rs` and the test here replay the corpus through
//! the same bodies, so that neither rots. A body panics when an invariant is broken, and only then.
//! Deliberately not here: the targets for `cache`, whose structured input has no readable seeds.

pub mod media_bodies;

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Replays every file of a target's corpus.
    fn replay(target: &str, body: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(target);
        let mut replayed = 0;
        for file in std::fs::read_dir(folder).expect("the target has a corpus") {
            let path = file.expect("the corpus can be listed").path();
            body(&std::fs::read(path).expect("the corpus can be read"));
            replayed += 1;
        }
        assert!(replayed > 0, "the corpus of {target} is empty");
    }

    #[test]
    fn every_target_replays_its_corpus() {
        use crate::media_bodies;

        replay("playlist", media_bodies::playlist);
        replay("directives", media_bodies::directives);
        replay("delta", media_bodies::delta);
        replay("mpd", media_bodies::mpd);
        replay("uri", media_bodies::uri);
    }
}
