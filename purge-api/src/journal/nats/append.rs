//! Putting a purge into the stream once, whatever the servers say of it.
//!
//! Who calls it: the journal. The servers recognize a repetition by a table of message ids that each of them keeps beside
//! the stream. The stream itself is agreed upon, the table is not: a server that led, was cut off and came back has ids of
//! messages that never became part of the stream, and answers "known, at 7" where 7 is another purge or nothing. So
//! what counts is the log: "known" is believed if the purge stands where it is said to, or is found by its key in what was read;
//! else the purge is published again under another id. Deliberately not here: how the log is read, which is in `follow`.

use std::sync::Arc;

use purge_log::Sequence;

use crate::journal::record::{Key, Record};
use crate::journal::{AppendError, Draft};

/// What the servers say of a purge that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) sequence: Sequence,
    /// Whether they say that its id came before.
    pub(super) is_known: bool,
}

/// Where a purge is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    New(Sequence),
    /// It came before.
    Known(Sequence, Box<Draft>),
}

impl Kept {
    pub(super) fn sequence(&self) -> Sequence {
        match self {
            Self::New(sequence) | Self::Known(sequence, _) => *sequence,
        }
    }
}

/// The stream, as appending sees it.
pub(super) trait Log {
    /// Publishes a purge, under an id if repetitions shall be recognized.
    async fn publish(
        &self,
        message_id: Option<String>,
        bytes: Arc<[u8]>,
    ) -> Result<Answered, AppendError>;

    /// Returns what stands at `sequence`; `None` if nothing does.
    async fn read(&self, sequence: Sequence) -> Result<Option<Draft>, AppendError>;

    /// Returns the place of the purge that came with `key`, when it is certain that all is read that was acknowledged
    /// before, and `at_least` was waited for.
    async fn place_of(
        &self,
        key: &Key,
        at_least: Sequence,
    ) -> Result<Option<Sequence>, AppendError>;
}

/// Appends a purge, or finds the one that came with the same key.
///
/// Two purge APIs that are told the same key while servers contradict themselves may both append it. A purge that is in the log
/// twice purges twice, which is harmless; one that is acknowledged and not there is not.
///
/// # Errors
///
/// As [`super::Nats::append`]; [`AppendError::Unknown`] if the servers know every id and no purge.
pub(super) async fn append(log: &impl Log, record: Record) -> Result<Kept, AppendError> {
    let Record { draft, bytes } = record;
    let bytes: Arc<[u8]> = bytes.into();
    let Some(key) = draft.key() else {
        return Ok(Kept::New(log.publish(None, bytes).await?.sequence));
    };
    for number in 0..IDS_MAX {
        let id = message_id(&draft, number);
        let answered = log.publish(Some(id), Arc::clone(&bytes)).await?;
        if !answered.is_known {
            return Ok(Kept::New(answered.sequence));
        }
        if let Some(known) = read_with_key(log, answered.sequence, &key).await? {
            return repeated(known, answered.sequence, &draft);
        }
        if let Some(place) = log.place_of(&key, answered.sequence).await?
            && let Some(known) = read_with_key(log, place, &key).await?
        {
            return repeated(known, place, &draft);
        }
        tracing::warn!(
            sequence = %answered.sequence,
            "the servers know a purge that is not in the stream: it is published under another id"
        );
    }
    Err(AppendError::Unknown)
}

/// Returns the purge at `sequence` if it came with `key`.
async fn read_with_key(
    log: &impl Log,
    sequence: Sequence,
    key: &Key,
) -> Result<Option<Draft>, AppendError> {
    // Before the first: some servers say so of what is on its way.
    if sequence == Sequence::START {
        return Ok(None);
    }
    let found = log.read(sequence).await?;
    Ok(found.filter(|draft| draft.key().as_ref() == Some(key)))
}

fn repeated(known: Draft, place: Sequence, draft: &Draft) -> Result<Kept, AppendError> {
    if known.asks_for(draft) {
        Ok(Kept::Known(place, Box::new(known)))
    } else {
        Err(AppendError::KeyReused(place))
    }
}

/// Returns the id under which the servers recognize a repetition; all purge APIs use the same ones in the same order.
fn message_id(draft: &Draft, number: u32) -> String {
    let (by, key) = (&draft.by, &draft.idempotency_key);
    // JSON has escapes for whatever a header field cannot carry.
    let id = match number {
        0 => serde_json::to_string(&(by, key)),
        _ => serde_json::to_string(&(by, key, number)),
    };
    id.expect("strings and a number are JSON")
}

/// Ids that one purge is published under before it is given up: each may be known to one server more that lost it.
const IDS_MAX: u32 = 6;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use parking_lot::Mutex;
    use purge_log::UnixMillis;

    use super::*;
    use crate::journal::tests::draft as purge_of;

    /// A stream whose table of ids can be told anything.
    #[derive(Default)]
    struct Servers {
        log: Mutex<Vec<Draft>>,
        /// Where the servers say that an id is.
        ids: Mutex<BTreeMap<String, Sequence>>,
    }

    impl Servers {
        fn having(drafts: impl IntoIterator<Item = Draft>) -> Self {
            let servers = Self::default();
            for draft in drafts {
                let place = servers.push(draft.clone());
                servers.ids.lock().insert(message_id(&draft, 0), place);
            }
            servers
        }

        fn push(&self, draft: Draft) -> Sequence {
            let mut log = self.log.lock();
            log.push(draft);
            Sequence(log.len() as u64)
        }

        /// Makes the servers believe that they have a purge at `sequence`.
        fn lost(&self, draft: &Draft, number: u32, sequence: u64) {
            let id = message_id(draft, number);
            self.ids.lock().insert(id, Sequence(sequence));
        }

        fn places_of(&self, draft: &Draft) -> Vec<u64> {
            let log = self.log.lock();
            let places = (1..).zip(log.iter());
            let meant = places.filter(|(_, there)| there.key() == draft.key());
            meant.map(|(place, _)| place).collect()
        }
    }

    impl Log for Servers {
        async fn publish(
            &self,
            message_id: Option<String>,
            bytes: Arc<[u8]>,
        ) -> Result<Answered, AppendError> {
            let known = message_id
                .as_ref()
                .and_then(|id| self.ids.lock().get(id).copied());
            if let Some(sequence) = known {
                return Ok(Answered {
                    sequence,
                    is_known: true,
                });
            }
            let sequence = self.push(crate::journal::record::read(&bytes).unwrap());
            if let Some(id) = message_id {
                self.ids.lock().insert(id, sequence);
            }
            Ok(Answered {
                sequence,
                is_known: false,
            })
        }

        async fn read(&self, sequence: Sequence) -> Result<Option<Draft>, AppendError> {
            let index = usize::try_from(sequence.0 - 1).unwrap();
            Ok(self.log.lock().get(index).cloned())
        }

        async fn place_of(
            &self,
            key: &Key,
            _at_least: Sequence,
        ) -> Result<Option<Sequence>, AppendError> {
            let log = self.log.lock();
            let found = (1..)
                .zip(log.iter())
                .find(|(_, there)| there.key().as_ref() == Some(key));
            Ok(found.map(|(place, _)| Sequence(place)))
        }
    }

    fn keyed(number: u64, key: &str) -> Draft {
        Draft {
            idempotency_key: Some(key.to_owned()),
            ..purge_of(number)
        }
    }

    async fn said(servers: &Servers, draft: &Draft) -> Result<Kept, AppendError> {
        append(servers, Record::new(draft.clone()).unwrap()).await
    }

    #[tokio::test]
    async fn f30_a_repetition_is_found_where_the_servers_say() {
        let first = keyed(1, "one");
        let servers = Servers::having([first.clone()]);
        let again = Draft {
            accepted_at: UnixMillis(9),
            ..first.clone()
        };
        let kept = said(&servers, &again).await.unwrap();
        assert_eq!(kept, Kept::Known(Sequence(1), Box::new(first)));
    }

    #[tokio::test]
    async fn f30_known_at_the_place_of_another_purge_is_published_again() {
        let (lost, other) = (keyed(1, "lost"), keyed(2, "other"));
        let servers = Servers::having([other]);
        servers.lost(&lost, 0, 1);
        let kept = said(&servers, &lost).await.unwrap();
        assert_eq!(kept, Kept::New(Sequence(2)));
        assert_eq!(servers.places_of(&lost), [2]);
    }

    #[tokio::test]
    async fn f30_a_purge_for_the_same_url_under_another_key_is_not_taken_for_it() {
        let (lost, other) = (keyed(1, "lost"), keyed(1, "other"));
        let servers = Servers::having([other]);
        servers.lost(&lost, 0, 1);
        assert_eq!(said(&servers, &lost).await.unwrap(), Kept::New(Sequence(2)));
    }

    #[tokio::test]
    async fn f30_known_beyond_the_end_or_nowhere_is_published_again_and_then_recognized() {
        for place in [0, 1, 7] {
            let lost = keyed(1, "lost");
            let servers = Servers::default();
            servers.lost(&lost, 0, place);
            assert_eq!(said(&servers, &lost).await.unwrap(), Kept::New(Sequence(1)));
            let again = said(&servers, &lost).await.unwrap();
            assert_eq!(again, Kept::Known(Sequence(1), Box::new(lost.clone())));
            assert_eq!(servers.places_of(&lost), [1]);
        }
    }

    #[tokio::test]
    async fn f30_known_at_a_wrong_place_is_found_by_its_key() {
        let (purge, other) = (keyed(1, "one"), keyed(2, "other"));
        let servers = Servers::having([other, purge.clone()]);
        servers.lost(&purge, 0, 1);
        let kept = said(&servers, &purge).await.unwrap();
        assert_eq!(kept, Kept::Known(Sequence(2), Box::new(purge.clone())));
        assert_eq!(servers.places_of(&purge), [2]);
    }

    #[tokio::test]
    async fn a_key_that_came_with_another_purge_is_refused_wherever_it_is_found() {
        let (first, second) = (keyed(1, "one"), keyed(2, "one"));
        let servers = Servers::having([keyed(3, "other"), first]);
        for claimed in [1, 2] {
            servers.lost(&second, 0, claimed);
            let refused = said(&servers, &second).await.unwrap_err();
            assert!(matches!(refused, AppendError::KeyReused(Sequence(2))));
        }
    }

    #[tokio::test]
    async fn f30_servers_that_know_every_id_and_no_purge_are_not_asked_for_ever() {
        let lost = keyed(1, "lost");
        let servers = Servers::default();
        for number in 0..IDS_MAX {
            servers.lost(&lost, number, 3);
        }
        let refused = said(&servers, &lost).await.unwrap_err();
        assert!(matches!(refused, AppendError::Unknown));
        assert!(servers.places_of(&lost).is_empty());
    }
}
