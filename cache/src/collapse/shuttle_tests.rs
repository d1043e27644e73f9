//! Searches the interleavings of leaders that fail, followers that leave, and purges.

use std::sync::atomic::{AtomicUsize, Ordering};

use shuttle::{check_random, future, thread};

use super::*;

const SCHEDULES: usize = 3_000;

/// Counts those who lead at once, and panics at two.
#[derive(Default)]
struct Leading {
    now: AtomicUsize,
    ever: AtomicUsize,
}

impl Leading {
    fn lead(&self) {
        assert_eq!(
            self.now.fetch_add(1, Ordering::SeqCst),
            0,
            "two lead at once"
        );
        self.ever.fetch_add(1, Ordering::SeqCst);
        thread::yield_now();
        assert_eq!(self.now.fetch_sub(1, Ordering::SeqCst), 1);
    }
}

#[test]
fn shuttle_at_most_one_leads_and_nobody_is_stranded_when_leaders_fail_in_any_order() {
    check_random(
        || {
            let collapse: Collapse<u8, u32> = Collapse::new();
            let leading = Arc::new(Leading::default());
            let requests: Vec<_> = (0..3)
                .map(|i| {
                    let (collapse, leading) = (collapse.clone(), leading.clone());
                    thread::spawn(move || {
                        let permit = match collapse.join(&1) {
                            Joined::Lead(permit) => permit,
                            Joined::Follow(follower) => match future::block_on(follower.wait()) {
                                Followed::Shared(value) => return value,
                                Followed::Lead(permit) => permit,
                            },
                        };
                        leading.lead();
                        if i == 0 {
                            drop(permit);
                            return 0;
                        }
                        drop(permit.publish(7));
                        7
                    })
                })
                .collect();
            for (i, request) in requests.into_iter().enumerate() {
                let value = request.join().unwrap();
                assert!(value == 7 || i == 0);
            }
            assert_eq!(collapse.in_flight(), 0);
        },
        SCHEDULES,
    );
}

#[test]
fn shuttle_a_follower_that_leaves_never_takes_the_permit_with_it() {
    check_random(
        || {
            let collapse: Collapse<u8, u32> = Collapse::new();
            let Joined::Lead(permit) = collapse.join(&1) else {
                panic!("the key is free");
            };
            let Joined::Follow(leaver) = collapse.join(&1) else {
                panic!("the key is taken");
            };
            let Joined::Follow(stayer) = collapse.join(&1) else {
                panic!("the key is taken");
            };
            let leave = thread::spawn(move || drop(leaver));
            let stay = thread::spawn(move || match future::block_on(stayer.wait()) {
                Followed::Lead(permit) => drop(permit.publish(1)),
                Followed::Shared(_) => panic!("nobody else may publish"),
            });
            drop(permit);
            leave.join().unwrap();
            stay.join().unwrap();
            assert_eq!(collapse.in_flight(), 0);
        },
        SCHEDULES,
    );
}

#[test]
fn shuttle_a_purge_during_a_fill_strands_nobody_and_leaves_nothing_behind() {
    check_random(
        || {
            let collapse: Collapse<u8, u32> = Collapse::new();
            let requests: Vec<_> = (0..3)
                .map(|i| {
                    let collapse = collapse.clone();
                    thread::spawn(move || {
                        let permit = match collapse.join(&1) {
                            Joined::Lead(permit) => permit,
                            Joined::Follow(follower) => match future::block_on(follower.wait()) {
                                Followed::Shared(_) => return,
                                Followed::Lead(permit) => permit,
                            },
                        };
                        match i {
                            0 => drop(permit),
                            1 => drop(permit.publish(1)),
                            _ => permit.refuse(2),
                        }
                    })
                })
                .collect();
            collapse.unlink(&1);
            for request in requests {
                request.join().unwrap();
            }
            assert_eq!(collapse.in_flight(), 0);
        },
        SCHEDULES,
    );
}

#[test]
fn shuttle_a_newcomer_gets_the_published_value_or_leads() {
    check_random(
        || {
            let collapse: Collapse<u8, u32> = Collapse::new();
            let leader = {
                let collapse = collapse.clone();
                thread::spawn(move || {
                    if let Joined::Lead(permit) = collapse.join(&1) {
                        drop(permit.publish(1));
                    }
                })
            };
            match collapse.join(&1) {
                Joined::Lead(permit) => permit.refuse(2),
                Joined::Follow(follower) => {
                    assert!(matches!(
                        future::block_on(follower.wait()),
                        Followed::Shared(1)
                    ));
                }
            }
            leader.join().unwrap();
            assert_eq!(collapse.in_flight(), 0);
        },
        SCHEDULES,
    );
}
