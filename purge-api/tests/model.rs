//! The purge log, the fence and the fills of three nodes under a million schedules.
//!
//! What is here: a small world (a log, a parent, two children, an origin, viewers) in which every step may
//! come in any order: a purge is accepted, a feed connects, sends, repeats, breaks; a node applies a purge
//! in two steps, crashes, returns with nothing; a fill begins, is joined, asks its parent, reaches the
//! origin, is stored. A seed is a schedule, so a failure is run again by its number. What judges the feed
//! and what lets fills pass is the product's own code: [`Cursor`], [`Window`] and [`Fence`].
//!
//! Invariant: no viewer is given a response that was made before a purge which the viewer's node had applied
//! when the request arrived. And in the end, when all feeds are whole again, all nodes agree with the origin.
//!
//! Each way of breaking the rules in [`Broken`] is caught, which shows that the check can fail.
//! Deliberately not here: clocks and heartbeats (lagging is tested in `node`), soft purges (they pass the
//! same fence), and the disk (see `kill.rs`).

use std::collections::VecDeque;
use std::sync::Arc;

use cache::{Fence, Mark};
use purge_log::feed::{Cursor, Message, Start, Step};
use purge_log::{Entry, LogId, Mode, PurgeId, PurgeRequest, Sequence, Target, UnixMillis, Window};

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// A fill is stored whatever was purged since it began.
    StoresWithoutFence,
    /// A viewer joins a fill that began before a purge.
    JoinsAcrossPurges,
    /// The fence is marked when the answer comes, not when the fill begins.
    MarksLate,
    /// A fill asks its parent for what its node has applied, not for what it has begun to apply.
    AsksForApplied,
    /// A child does not say how far it is, so that its parent answers from before the purge.
    AsksWithoutMinimum,
    /// A parent that is late does wait or bypass, but lets the child join a fill that is under way.
    JoinsInsteadOfBypass,
    /// A purge removes before it raises the fence.
    RemovesBeforeRaising,
    /// Purges that were missed are taken for applied.
    IgnoresResets,
    /// A node that comes back has what it stored, and joins the log at its head.
    KeepsStoreOverCrash,
    /// A node says that a purge is applied before it is.
    PublishesEarly,
}

/// What a response in the store or on its way is made of.
#[derive(Clone, Copy, Debug)]
struct Made {
    /// The head of the log when the origin made it: all purges until then are in it.
    at: u64,
}

/// Who waits for a fill.
#[derive(Clone, Copy, Debug)]
enum Waiter {
    /// A viewer, and what its node had applied when it came.
    Viewer { applied: u64 },
    /// A fill of a child.
    Child { node: usize, fill: u64 },
}

#[derive(Debug)]
struct Fill {
    id: u64,
    key: usize,
    mark: Mark,
    /// The parent must be as far.
    minimum: u64,
    waiting: Vec<Waiter>,
    /// Whether the parent was asked.
    is_asked: bool,
    /// Begun for a child that is ahead: joined by nobody.
    is_private: bool,
    answer: Option<Made>,
}

/// A connection of a node to the log.
#[derive(Debug, Default)]
struct Link {
    at: u64,
    lines: VecDeque<Message>,
}

#[derive(Debug)]
struct Node {
    cursor: Cursor,
    /// Everything up to here is applied, as far as others can see.
    published: u64,
    /// Everything up to here is applied, or is being applied: what a fill that begins now asks its parent for.
    minimum: u64,
    /// A purge that is being applied: what it means and its place.
    applying: Option<(Option<usize>, u64)>,
    store: [Option<Made>; KEYS],
    fence: Fence<Option<usize>>,
    fills: Vec<Fill>,
    link: Option<Link>,
    window: Option<Window>,
}

struct World {
    broken: Broken,
    chance: Chance,
    log: Window,
    /// What each entry of the log means: a key, or everything.
    targets: Vec<Option<usize>>,
    nodes: [Node; NODES],
    /// Whether children follow their parent, or the log itself.
    follows_parent: bool,
    fills_begun: u64,
    served: u64,
    refused: u64,
    trace: Option<Vec<String>>,
}

/// What a viewer was given and should not have been.
#[derive(Debug, thiserror::Error)]
#[error(
    "a viewer of {key} at node {node} is given what was made at {made_at}, before purge {purge}"
)]
struct Violation {
    node: usize,
    key: usize,
    made_at: u64,
    purge: u64,
}

/// The numbers that make a schedule.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }

    fn is_one_in(&mut self, limit: usize) -> bool {
        self.below(limit) == 0
    }
}

impl Node {
    fn new() -> Self {
        Self {
            cursor: Cursor::default(),
            published: 0,
            minimum: 0,
            applying: None,
            store: [None; KEYS],
            fence: Fence::new(FENCE_REMEMBERS),
            fills: Vec::new(),
            link: None,
            window: None,
        }
    }

    fn lets_pass(&self, mark: Mark, key: usize) -> bool {
        self.fence
            .lets_pass(mark, |target| target.is_none_or(|purged| purged == key))
    }

    fn remove(&mut self, target: Option<usize>) {
        match target {
            Some(key) => self.store[key] = None,
            None => self.store = [None; KEYS],
        }
    }
}

impl World {
    fn new(seed: u64, broken: Broken) -> Self {
        let mut chance = Chance(seed);
        Self {
            broken,
            log: Window::new(LOG, Sequence::START, 100),
            targets: vec![None],
            nodes: std::array::from_fn(|_| Node::new()),
            follows_parent: chance.is_one_in(2),
            chance,
            fills_begun: 0,
            served: 0,
            refused: 0,
            trace: None,
        }
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(text());
        }
    }

    /// Takes one step of any kind, if it is possible now.
    fn step(&mut self) -> Result<(), Violation> {
        let node = self.chance.below(NODES);
        let key = self.chance.below(KEYS);
        match self.chance.below(40) {
            0..=2 => self.purge(key),
            3..=9 => return self.view(1 + self.chance.0 as usize % (NODES - 1), key),
            10..=13 => self.ask(node),
            14..=16 => self.read_origin(),
            17..=20 => return self.commit(node),
            21..=22 => self.connect(node),
            23..=27 => self.send(node),
            28..=32 => self.receive(node),
            33..=36 => self.finish_applying(node),
            37 => self.cut(node),
            38 if self.chance.is_one_in(3) => self.crash(node),
            39 if self.chance.is_one_in(3) => self.compact(),
            _ => {}
        }
        Ok(())
    }

    /// The origin changes, and then the purge of what changed is accepted.
    fn purge(&mut self, key: usize) {
        if self.targets.len() > PURGES_MAX {
            return;
        }
        let target = (!self.chance.is_one_in(6)).then_some(key);
        let sequence = self.log.bounds().head.next();
        self.note(|| format!("purge {sequence} of {target:?}"));
        self.targets.push(target);
        let pushed = self.log.push(entry(sequence));
        pushed.expect("it is the next");
    }

    /// A viewer asks a node.
    fn view(&mut self, node: usize, key: usize) -> Result<(), Violation> {
        let applied = self.nodes[node].published;
        self.note(|| format!("viewer of {key} at {node}, which applied {applied}"));
        if let Some(made) = self.nodes[node].store[key] {
            return self.serve(node, key, applied, made);
        }
        self.wait_for_fill(node, key, Waiter::Viewer { applied }, false);
        Ok(())
    }

    /// Joins a fill that may be joined, or begins one.
    fn wait_for_fill(&mut self, at: usize, key: usize, waiter: Waiter, is_private: bool) {
        let broken = self.broken;
        let node = &mut self.nodes[at];
        let joinable = (0..node.fills.len()).find(|index| {
            let fill = &node.fills[*index];
            let passes = node.lets_pass(fill.mark, key) || broken == Broken::JoinsAcrossPurges;
            let may_join = !is_private || broken == Broken::JoinsInsteadOfBypass;
            may_join && !fill.is_private && fill.key == key && passes
        });
        if let Some(index) = joinable {
            node.fills[index].waiting.push(waiter);
            return;
        }
        self.fills_begun += 1;
        let fill = Fill {
            id: self.fills_begun,
            key,
            // The mark first: every purge that it lies behind is then in the minimum.
            mark: node.fence.mark(),
            minimum: match broken {
                Broken::AsksWithoutMinimum => 0,
                Broken::AsksForApplied => node.published,
                _ => node.minimum,
            },
            waiting: vec![waiter],
            is_asked: false,
            is_private,
            answer: None,
        };
        node.fills.push(fill);
    }

    /// The request of a child's fill reaches the parent.
    fn ask(&mut self, child: usize) {
        let Some(fill) = self.nodes[child].fills.iter_mut().find(|f| !f.is_asked) else {
            return;
        };
        if child == PARENT {
            return;
        }
        let (id, key, minimum) = (fill.id, fill.key, fill.minimum);
        let waiter = Waiter::Child {
            node: child,
            fill: id,
        };
        let is_late = self.nodes[PARENT].published < minimum;
        // It waits for the log, or gives up waiting and asks its own parent for this one child.
        if is_late && !self.chance.is_one_in(3) {
            return;
        }
        let asked = self.nodes[child].fills.iter_mut().find(|f| f.id == id);
        let asked = asked.expect("it was found above");
        asked.is_asked = true;
        match self.nodes[PARENT].store[key] {
            Some(made) if !is_late => asked.answer = Some(made),
            _ => self.wait_for_fill(PARENT, key, waiter, is_late),
        }
        self.note(|| format!("fill {id} of {child} asks the parent, late: {is_late}"));
    }

    /// The origin answers a fill of the parent.
    fn read_origin(&mut self) {
        let at = self.log.bounds().head.0;
        let unanswered = self.nodes[PARENT].fills.iter_mut();
        let mut unanswered: Vec<_> = unanswered.filter(|f| f.answer.is_none()).collect();
        if unanswered.is_empty() {
            return;
        }
        let index = self.chance.below(unanswered.len());
        unanswered[index].answer = Some(Made { at });
        let id = unanswered[index].id;
        self.note(|| format!("the origin answers fill {id} as of {at}"));
    }

    /// The answer of a fill arrives: it is stored if the fence lets it pass, and given to all who wait.
    fn commit(&mut self, at: usize) -> Result<(), Violation> {
        let node = &mut self.nodes[at];
        let Some(index) = node.fills.iter().position(|f| f.answer.is_some()) else {
            return Ok(());
        };
        let fill = node.fills.swap_remove(index);
        let made = fill.answer.expect("it was looked for");
        let mark = if self.broken == Broken::MarksLate {
            node.fence.mark()
        } else {
            fill.mark
        };
        let passes = node.lets_pass(mark, fill.key);
        if passes || self.broken == Broken::StoresWithoutFence {
            node.store[fill.key] = Some(made);
        } else {
            self.refused += 1;
        }
        self.note(|| format!("fill {} of {at} ends, stored: {passes}", fill.id));
        for waiter in fill.waiting {
            match waiter {
                Waiter::Viewer { applied } => self.serve(at, fill.key, applied, made)?,
                Waiter::Child { node, fill } => {
                    let asking = self.nodes[node].fills.iter_mut().find(|f| f.id == fill);
                    if let Some(asking) = asking {
                        asking.answer = Some(made);
                    }
                }
            }
        }
        Ok(())
    }

    fn serve(
        &mut self,
        node: usize,
        key: usize,
        applied: u64,
        made: Made,
    ) -> Result<(), Violation> {
        self.served += 1;
        let means = |purge: &u64| {
            let target = self.targets[*purge as usize];
            target.is_none_or(|purged| purged == key)
        };
        let newest = (1..=applied).rev().find(means);
        match newest {
            Some(purge) if made.at < purge => Err(Violation {
                node,
                key,
                made_at: made.at,
                purge,
            }),
            _ => Ok(()),
        }
    }

    /// Returns what a node follows.
    fn source(&self, node: usize) -> Option<&Window> {
        if self.follows_parent && node != PARENT {
            self.nodes[PARENT].window.as_ref()
        } else {
            Some(&self.log)
        }
    }

    fn connect(&mut self, node: usize) {
        let latest = self.chance.below(3) as u64;
        let Some(bounds) = self.source(node).map(Window::bounds) else {
            return;
        };
        if self.nodes[node].link.is_some() {
            return;
        }
        let after = match self.nodes[node].cursor.connect(latest) {
            Start::After(_, after) => after,
            Start::Latest(latest) => {
                Sequence(bounds.head.0.saturating_sub(latest)).max(bounds.tail.previous())
            }
        };
        self.note(|| format!("{node} follows after {after}"));
        let begin = Message::Begin { log: LOG, after };
        self.nodes[node].link = Some(Link {
            at: after.0,
            lines: VecDeque::from([begin]),
        });
    }

    /// The other end of a feed writes a line.
    fn send(&mut self, node: usize) {
        let Some(at) = self.nodes[node].link.as_ref().map(|link| Sequence(link.at)) else {
            return;
        };
        let Some(source) = self.source(node) else {
            return;
        };
        let read = source.read_after(at, 1);
        let head = source.bounds().head;
        let repeats = self.chance.is_one_in(8);
        let link = self.nodes[node].link.as_mut().expect("it is there");
        match read.as_deref() {
            Some([entry]) => {
                link.at = entry.sequence.0;
                link.lines.push_back(Message::Entry(Entry::clone(entry)));
                if repeats {
                    link.lines.push_back(Message::Entry(Entry::clone(entry)));
                }
            }
            Some(_) => {}
            None => {
                link.at = head.0;
                let through = head;
                link.lines.push_back(Message::Reset { log: LOG, through });
            }
        }
    }

    /// A node reads a line, and begins to do what it says.
    fn receive(&mut self, at: usize) {
        if self.nodes[at].applying.is_some() {
            return;
        }
        let swaps = self.chance.is_one_in(16);
        let node = &mut self.nodes[at];
        let Some(link) = &mut node.link else {
            return;
        };
        if swaps && let [Message::Entry(_), Message::Entry(_), ..] = link.lines.make_contiguous() {
            link.lines.swap(0, 1);
        }
        let Some(line) = link.lines.pop_front() else {
            return;
        };
        let is_first = node.cursor.position().is_none();
        let Ok(step) = node.cursor.judge(line) else {
            node.link = None;
            return;
        };
        let applied = node.cursor.position().map_or(0, |p| p.applied.0);
        let target = match step {
            Step::Apply(ref entry) => self.targets[entry.sequence.0 as usize],
            Step::Reset(_) => None,
            Step::Nothing if is_first => None,
            Step::Nothing | Step::Current { .. } => return,
        };
        let is_reset = matches!(step, Step::Reset(_));
        let is_ignored = is_reset && self.broken == Broken::IgnoresResets;
        let keeps = is_first && self.broken == Broken::KeepsStoreOverCrash;
        if is_reset || is_first {
            let (log, head) = (LOG, Sequence(applied));
            let window = &mut node.window;
            window
                .get_or_insert_with(|| Window::new(log, head, 3))
                .begin_anew(log, head);
        }
        // Before the fence is raised, so that no mark behind it comes with a lesser minimum.
        node.minimum = applied;
        if is_ignored || keeps {
            node.published = applied;
            return;
        }
        match self.broken {
            Broken::RemovesBeforeRaising => node.remove(target),
            Broken::PublishesEarly => {
                node.fence.raise(target);
                node.published = applied;
            }
            _ => node.fence.raise(target),
        }
        node.applying = Some((target, applied));
        self.note(|| format!("{at} begins to apply {applied}, {target:?}"));
    }

    /// A node ends applying: only now do others see that it did.
    fn finish_applying(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some((target, applied)) = node.applying.take() else {
            return;
        };
        match self.broken {
            Broken::RemovesBeforeRaising => node.fence.raise(target),
            _ => node.remove(target),
        }
        node.published = applied;
        let sequence = Sequence(applied);
        if let Some(window) = &mut node.window
            && window.bounds().head.next() == sequence
        {
            window.push(entry(sequence)).expect("it is the next");
        }
        self.note(|| format!("{at} applied {applied}"));
    }

    fn cut(&mut self, node: usize) {
        self.nodes[node].link = None;
        self.note(|| format!("the feed of {node} breaks"));
    }

    /// A node ends and starts again with nothing; who waited for its answers goes without.
    fn crash(&mut self, at: usize) {
        let mut fresh = Node::new();
        if self.broken == Broken::KeepsStoreOverCrash {
            fresh.store = self.nodes[at].store;
        }
        self.nodes[at] = fresh;
        if at == PARENT {
            for child in &mut self.nodes[1..] {
                child
                    .fills
                    .retain(|fill| !fill.is_asked || fill.answer.is_some());
                if self.follows_parent {
                    child.link = None;
                }
            }
        }
        self.note(|| format!("{at} crashes"));
    }

    /// The log forgets its oldest entry.
    fn compact(&mut self) {
        let tail = self.log.bounds().tail;
        self.log.cut(tail.next());
        self.note(|| format!("the log forgets {tail}"));
    }

    /// Lets everything come through, and asks every node for everything.
    fn settle(&mut self) -> Result<(), Violation> {
        for node in 0..NODES {
            for _ in 0..SETTLING_MAX {
                let head = self.log.bounds().head.0;
                let node_at = &self.nodes[node];
                if node_at.published == head && node_at.applying.is_none() && node_at.link.is_some()
                {
                    break;
                }
                self.connect(node);
                self.send(node);
                self.receive(node);
                self.finish_applying(node);
            }
        }
        let head = self.log.bounds().head.0;
        for node in 1..NODES {
            for key in 0..KEYS {
                self.view(node, key)?;
            }
            assert_eq!(
                self.nodes[node].published, head,
                "a feed does not come through"
            );
        }
        let wanted = (NODES - 1) * KEYS;
        for _ in 0..SETTLING_MAX * wanted {
            for node in (0..NODES).rev() {
                self.ask(node);
                self.commit(node)?;
            }
            self.read_origin();
            if self.nodes.iter().all(|node| node.fills.is_empty()) {
                return Ok(());
            }
        }
        panic!("a fill never ends");
    }
}

fn entry(sequence: Sequence) -> Arc<Entry> {
    Arc::new(Entry {
        sequence,
        id: PurgeId { log: LOG, sequence },
        accepted_at: UnixMillis(0),
        // What it means is in `World::targets`: an allocation less per step.
        request: PurgeRequest {
            target: Target::All,
            mode: Mode::Hard,
        },
        dry_run: false,
        by: String::new(),
    })
}

/// What many schedules came to.
#[derive(Debug, Default)]
struct Explored {
    schedules: u64,
    served: u64,
    refused: u64,
}

/// Runs schedules until one goes wrong; returns its seed and what went wrong.
fn explore(seeds: std::ops::Range<u64>, broken: Broken) -> Result<Explored, (u64, Violation)> {
    let mut explored = Explored::default();
    for seed in seeds {
        let mut world = World::new(seed, broken);
        run(&mut world).map_err(|violation| (seed, violation))?;
        explored.schedules += 1;
        explored.served += world.served;
        explored.refused += world.refused;
    }
    Ok(explored)
}

fn run(world: &mut World) -> Result<(), Violation> {
    for _ in 0..STEPS {
        world.step()?;
    }
    world.settle()
}

/// Returns what happened in the schedule `seed`, step by step.
fn story(seed: u64, broken: Broken) -> String {
    let mut world = World::new(seed, broken);
    world.trace = Some(Vec::new());
    let ended = run(&mut world);
    let trace = world.trace.unwrap_or_default().join("\n");
    let ended = ended.map_or_else(|violation| violation.to_string(), |()| String::new());
    format!("{trace}\n{ended}")
}

#[test]
fn invariant_5_no_schedule_serves_what_was_made_before_an_applied_purge() {
    let threads = 2;
    let share = SCHEDULES / threads;
    let explored: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|n| scope.spawn(move || explore(n * share..(n + 1) * share, Broken::Nothing)))
            .collect();
        running.into_iter().map(|r| r.join().unwrap()).collect()
    });
    let mut total = Explored::default();
    for part in explored {
        let part = part.unwrap_or_else(|(seed, _)| {
            panic!("schedule {seed}:\n{}", story(seed, Broken::Nothing));
        });
        total.schedules += part.schedules;
        total.served += part.served;
        total.refused += part.refused;
    }
    assert_eq!(total.schedules, SCHEDULES);
    assert!(total.refused > SCHEDULES / 100, "the fence had work to do");
    println!("{total:?}");
}

#[test]
fn every_broken_rule_is_caught() {
    let rules = [
        Broken::StoresWithoutFence,
        Broken::JoinsAcrossPurges,
        Broken::MarksLate,
        Broken::AsksForApplied,
        Broken::AsksWithoutMinimum,
        Broken::JoinsInsteadOfBypass,
        Broken::RemovesBeforeRaising,
        Broken::IgnoresResets,
        Broken::KeepsStoreOverCrash,
        Broken::PublishesEarly,
    ];
    for broken in rules {
        match explore(0..SCHEDULES / 10, broken) {
            Ok(_) => panic!("{broken:?} was not noticed"),
            Err((seed, violation)) => println!("{broken:?}: schedule {seed}, {violation}"),
        }
    }
}

const LOG: LogId = LogId(7);
const NODES: usize = 3;
const PARENT: usize = 0;
const KEYS: usize = 2;
/// Purges of one schedule.
const PURGES_MAX: usize = 6;
/// So few that forgetting is part of the schedules.
const FENCE_REMEMBERS: usize = 3;
/// Steps of a schedule, of which some are not possible when their turn comes.
const STEPS: usize = 80;
const SETTLING_MAX: usize = 40;
const SCHEDULES: u64 = 1_000_000;
