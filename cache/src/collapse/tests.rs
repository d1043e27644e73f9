//! Who leads, who follows, and what they hear, step by step.

use std::pin::Pin;

use proptest::prelude::*;

use super::*;

type Key = &'static str;
type Wait = Pin<Box<dyn Future<Output = Followed<Key, u32>>>>;

fn lead(joined: Joined<Key, u32>) -> FillPermit<Key, u32> {
    match joined {
        Joined::Lead(permit) => permit,
        Joined::Follow(_) => panic!("expected to lead"),
    }
}

fn follow(joined: Joined<Key, u32>) -> Wait {
    match joined {
        Joined::Follow(follower) => Box::pin(follower.wait()),
        Joined::Lead(_) => panic!("expected to follow"),
    }
}

fn poll(wait: &mut Wait) -> Poll<Followed<Key, u32>> {
    wait.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn value(wait: &mut Wait) -> Option<u32> {
    match poll(wait) {
        Poll::Ready(Followed::Shared(value)) => Some(value),
        Poll::Ready(Followed::Lead(_)) => panic!("expected a value, was elected"),
        Poll::Pending => None,
    }
}

#[test]
fn lb_09_duplicates_are_held_until_the_fill_answers_and_then_share_it() {
    let collapse = Collapse::new();
    let permit = lead(collapse.join(&"a"));
    let mut waits: Vec<_> = (0..100).map(|_| follow(collapse.join(&"a"))).collect();
    assert!(waits.iter_mut().all(|wait| value(wait).is_none()));
    let published = permit.publish(7);
    assert!(waits.iter_mut().all(|wait| value(wait) == Some(7)));
    assert_eq!(value(&mut follow(collapse.join(&"a"))), Some(7));
    assert_eq!(collapse.in_flight(), 1);
    drop(published);
    assert_eq!(collapse.in_flight(), 0);
    drop(lead(collapse.join(&"a")));
}

#[test]
fn who_starts_a_fill_hears_it_even_if_it_is_over_before_anybody_waits() {
    let collapse = Collapse::new();
    let permit = lead(collapse.join(&"a"));
    let mut wait: Wait = Box::pin(permit.follower().wait());
    permit.refuse(7);
    assert_eq!(value(&mut wait), Some(7));

    // A task that dies leaves the fill to the one who started it.
    let permit = lead(collapse.join(&"a"));
    let mut wait: Wait = Box::pin(permit.follower().wait());
    drop(permit);
    assert!(matches!(poll(&mut wait), Poll::Ready(Followed::Lead(_))));
}

#[test]
fn keys_do_not_wait_for_each_other() {
    let collapse = Collapse::new();
    let _a = lead(collapse.join(&"a"));
    let _b = lead(collapse.join(&"b"));
    assert_eq!(collapse.in_flight(), 2);
}

#[test]
fn a_dropped_permit_elects_exactly_one_follower_and_the_others_wait_on() {
    let collapse = Collapse::new();
    let permit = lead(collapse.join(&"a"));
    let mut waits: Vec<_> = (0..3).map(|_| follow(collapse.join(&"a"))).collect();
    drop(permit);
    let elected: Vec<_> = waits
        .iter_mut()
        .filter_map(|wait| match poll(wait) {
            Poll::Ready(Followed::Lead(permit)) => Some(permit),
            Poll::Ready(Followed::Shared(_)) => panic!("nothing was published"),
            Poll::Pending => None,
        })
        .collect();
    let [permit] = elected.try_into().expect("one is elected");
    let _published = permit.publish(1);
    assert_eq!(value(&mut waits[1]), Some(1));
    assert_eq!(value(&mut waits[2]), Some(1));
}

#[test]
fn a_dropped_permit_frees_the_key_when_nobody_waits() {
    let collapse = Collapse::new();
    let permit = lead(collapse.join(&"a"));
    drop(follow(collapse.join(&"a")));
    drop(permit);
    assert_eq!(collapse.in_flight(), 0);
}

#[test]
fn an_elected_follower_that_leaves_hands_the_permit_on() {
    let collapse = Collapse::new();
    let permit = lead(collapse.join(&"a"));
    let first = follow(collapse.join(&"a"));
    let mut second = follow(collapse.join(&"a"));
    drop(permit);
    drop(first);
    assert!(matches!(poll(&mut second), Poll::Ready(Followed::Lead(_))));
    assert_eq!(collapse.in_flight(), 0);
}

#[test]
fn a_refusal_is_shared_once_and_never_with_newcomers() {
    let collapse = Collapse::new();
    let permit = lead(collapse.join(&"a"));
    let mut wait = follow(collapse.join(&"a"));
    permit.refuse(503);
    let next = lead(collapse.join(&"a"));
    assert_eq!(value(&mut wait), Some(503));
    assert_eq!(next.key(), &"a");
}

#[test]
fn after_a_purge_newcomers_begin_another_fill_and_followers_keep_theirs() {
    let collapse = Collapse::new();
    let before = lead(collapse.join(&"a"));
    let mut early = follow(collapse.join(&"a"));
    assert!(collapse.unlink(&"a"));
    assert!(!collapse.unlink(&"a"));
    let after = lead(collapse.join(&"a"));
    let mut late = follow(collapse.join(&"a"));
    drop(before.publish(1));
    assert_eq!(value(&mut early), Some(1));
    assert_eq!(value(&mut late), None);
    let _published = after.publish(2);
    assert_eq!(value(&mut late), Some(2));
    assert_eq!(collapse.in_flight(), 1);
}

#[test]
fn followers_of_a_fill_that_was_cut_off_and_abandoned_join_the_next_one() {
    let collapse = Collapse::new();
    let before = lead(collapse.join(&"a"));
    let mut first = follow(collapse.join(&"a"));
    let mut second = follow(collapse.join(&"a"));
    collapse.unlink(&"a");
    drop(before);
    let Poll::Ready(Followed::Lead(permit)) = poll(&mut first) else {
        panic!("the key is free: the first to look leads");
    };
    assert_eq!(value(&mut second), None);
    let _published = permit.publish(3);
    assert_eq!(value(&mut second), Some(3));
}

#[test]
fn a_purge_by_predicate_cuts_off_what_it_means_and_returns_it() {
    let collapse = Collapse::new();
    let _a = lead(collapse.join(&"a")).publish(1);
    let _b = lead(collapse.join(&"b"));
    let _c = lead(collapse.join(&"c")).publish(3);
    let mut cut = collapse.unlink_where(|key, value| *key == "b" || value == Some(&1));
    cut.sort();
    assert_eq!(cut, [("a", Some(1)), ("b", None)]);
    assert_eq!(collapse.in_flight(), 1);
}

/// What may happen, in any order; numbers choose among what there is.
#[derive(Clone, Debug)]
enum Op {
    Join(bool),
    Publish(usize),
    Refuse(usize),
    DropPermit(usize),
    DropPublished(usize),
    Poll(usize),
    Leave(usize),
    Unlink(bool),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => any::<bool>().prop_map(Op::Join),
        1 => any::<usize>().prop_map(Op::Publish),
        1 => any::<usize>().prop_map(Op::Refuse),
        2 => any::<usize>().prop_map(Op::DropPermit),
        2 => any::<usize>().prop_map(Op::DropPublished),
        4 => any::<usize>().prop_map(Op::Poll),
        2 => any::<usize>().prop_map(Op::Leave),
        1 => any::<bool>().prop_map(Op::Unlink),
    ]
}

/// Everybody alive.
#[derive(Default)]
struct World {
    permits: Vec<FillPermit<Key, u32>>,
    published: Vec<Published<Key, u32>>,
    waits: Vec<Wait>,
}

impl World {
    fn poll(&mut self, i: usize) {
        match poll(&mut self.waits[i]) {
            Poll::Pending => return,
            Poll::Ready(Followed::Lead(permit)) => self.permits.push(permit),
            Poll::Ready(Followed::Shared(_)) => {}
        }
        drop(self.waits.swap_remove(i));
    }
}

fn key(which: bool) -> Key {
    if which { "a" } else { "b" }
}

proptest! {
    #[test]
    fn one_leads_at_a_time_and_nobody_is_stranded(ops in prop::collection::vec(op(), 0..80)) {
        let collapse: Collapse<Key, u32> = Collapse::new();
        let mut world = World::default();
        let mut was_unlinked = false;
        for op in ops {
            match op {
                Op::Join(which) => match collapse.join(&key(which)) {
                    Joined::Lead(permit) => world.permits.push(permit),
                    Joined::Follow(follower) => world.waits.push(Box::pin(follower.wait())),
                },
                Op::Publish(i) if !world.permits.is_empty() => {
                    let permit = world.permits.swap_remove(i % world.permits.len());
                    world.published.push(permit.publish(0));
                }
                Op::Refuse(i) if !world.permits.is_empty() => {
                    world.permits.swap_remove(i % world.permits.len()).refuse(1);
                }
                Op::DropPermit(i) if !world.permits.is_empty() => {
                    drop(world.permits.swap_remove(i % world.permits.len()));
                }
                Op::DropPublished(i) if !world.published.is_empty() => {
                    drop(world.published.swap_remove(i % world.published.len()));
                }
                Op::Poll(i) if !world.waits.is_empty() => world.poll(i % world.waits.len()),
                Op::Leave(i) if !world.waits.is_empty() => {
                    drop(world.waits.swap_remove(i % world.waits.len()));
                }
                Op::Unlink(which) => was_unlinked |= collapse.unlink(&key(which)),
                Op::Publish(_) | Op::Refuse(_) | Op::DropPermit(_) | Op::DropPublished(_)
                | Op::Poll(_) | Op::Leave(_) => {}
            }
            if !was_unlinked {
                for key in ["a", "b"] {
                    let leading = world.permits.iter().filter(|p| p.key() == &key).count()
                        + world.published.iter().filter(|p| p.place.key == key).count();
                    prop_assert!(leading <= 1, "{leading} lead {key}");
                }
            }
        }
        // Everybody who leads gives up; every follower must hear before long.
        for _ in 0..=world.waits.len() {
            world.permits.clear();
            world.published.clear();
            for i in (0..world.waits.len()).rev() {
                world.poll(i);
            }
        }
        prop_assert!(world.waits.is_empty(), "{} stranded", world.waits.len());
        drop(world);
        prop_assert_eq!(collapse.in_flight(), 0);
    }
}
