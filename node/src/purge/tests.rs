//! Following, in virtual time, over a simulated network: an API, nodes behind it, nodes behind those.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use http::Method;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use purge_log::feed::{
    FEED_PATH, HEARTBEAT, Log, Message, Missing, REPORTS_PATH, Refused, Subscription, read_reports,
    stream,
};
use purge_log::{
    Applied, Bounds, LogId, Mode, PurgeId, PurgeRequest, Report, Target, UnixMillis, Window,
};
use tokio::io::DuplexStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::upstream::{
    Connector, ParentConfig, Selection, SimulatedNetwork, UpstreamConfig, UpstreamLimits,
};

const LOG: LogId = LogId(7);

/// Who listens under which name, and who is cut off.
#[derive(Clone, Default)]
struct Net {
    listeners: Arc<Mutex<HashMap<String, Listener>>>,
    connections: Arc<Mutex<JoinSet<()>>>,
}

#[derive(Clone)]
struct Listener {
    serve: Arc<dyn Fn(DuplexStream) -> BoxFuture<'static, ()> + Send + Sync>,
    /// Cancelled, and replaced, to cut all connections.
    cut: CancellationToken,
    is_up: bool,
}

impl SimulatedNetwork for Net {
    fn connect<'a>(&'a self, authority: &'a str) -> BoxFuture<'a, io::Result<DuplexStream>> {
        let name = authority.split(':').next().unwrap_or_default();
        let listener = self.listeners.lock().get(name).filter(|l| l.is_up).cloned();
        async move {
            let listener = listener.ok_or(io::ErrorKind::ConnectionRefused)?;
            let (here, there) = tokio::io::duplex(64 * 1024);
            let serving = (listener.serve)(there);
            self.connections.lock().spawn(async move {
                listener.cut.run_until_cancelled(serving).await;
            });
            Ok(here)
        }
        .boxed()
    }
}

impl Net {
    fn listen<F>(&self, name: &str, answer: impl Fn(Asked) -> F + Clone + Send + Sync + 'static)
    where
        F: Future<Output = Response<FeedBody>> + Send + 'static,
    {
        let serve = move |pipe: DuplexStream| {
            let answer = answer.clone();
            async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let answer = answer.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        let content = body.collect().await.unwrap().to_bytes();
                        Ok::<_, Infallible>(answer(Asked { head, content }).await)
                    }
                });
                let http1 = hyper::server::conn::http1::Builder::new();
                http1
                    .serve_connection(TokioIo::new(pipe), service)
                    .await
                    .ok();
            }
            .boxed()
        };
        let listener = Listener {
            serve: Arc::new(serve),
            cut: CancellationToken::new(),
            is_up: true,
        };
        self.listeners.lock().insert(name.to_owned(), listener);
    }

    /// Cuts every connection to `name` and refuses new ones, or accepts them again.
    fn set_up(&self, name: &str, is_up: bool) {
        let mut listeners = self.listeners.lock();
        let listener = listeners.get_mut(name).unwrap();
        listener.is_up = is_up;
        if !is_up {
            std::mem::take(&mut listener.cut).cancel();
        }
    }
}

struct Asked {
    head: http::request::Parts,
    content: Bytes,
}

/// A purge API without a disk.
#[derive(Clone)]
struct Api {
    window: Arc<Mutex<Window>>,
    bounds: watch::Sender<Bounds>,
    reports: Arc<Mutex<HashMap<String, Report>>>,
    applied: Arc<Mutex<HashMap<(String, u64), Applied>>>,
    /// Lines that the next feeds send instead of the log's.
    script: Arc<Mutex<Vec<Bytes>>>,
    /// Since when it does not know whether the log goes on elsewhere.
    cut_off_at: Arc<Mutex<Option<Instant>>>,
}

impl Api {
    fn start(net: &Net, entries_max: usize) -> Self {
        Self::start_as("api", net, entries_max)
    }

    fn start_as(name: &str, net: &Net, entries_max: usize) -> Self {
        let window = Window::new(LOG, Sequence::START, entries_max);
        let api = Self {
            bounds: watch::Sender::new(window.bounds()),
            window: Arc::new(Mutex::new(window)),
            reports: Arc::default(),
            applied: Arc::default(),
            script: Arc::default(),
            cut_off_at: Arc::default(),
        };
        let answering = api.clone();
        net.listen(name, move |asked| {
            std::future::ready(answering.answer(&asked))
        });
        api
    }

    fn answer(&self, asked: &Asked) -> Response<FeedBody> {
        if asked.head.uri.path() != FEED_PATH {
            if self.cut_off_at.lock().is_some() {
                let mut refused = Response::new(Full::default().boxed_unsync());
                *refused.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                return refused;
            }
            self.report(read_reports(&asked.content).unwrap()).unwrap();
            return Response::new(Full::default().boxed_unsync());
        }
        let script = std::mem::take(&mut *self.script.lock());
        if !script.is_empty() {
            let frames = script.into_iter().map(|line| Ok(Frame::data(line)));
            let body = StreamBody::new(futures_util::stream::iter(frames));
            return Response::new(body.boxed_unsync());
        }
        let query = asked.head.uri.query().unwrap();
        let subscription = Subscription::from_query(query).unwrap();
        let frames = stream(self.clone(), subscription.start).map(|b| Ok(Frame::data(b)));
        Response::new(StreamBody::new(frames).boxed_unsync())
    }

    fn purge(&self, count: u64) {
        let mut window = self.window.lock();
        for _ in 0..count {
            let sequence = window.bounds().head.next();
            window.push(Arc::new(entry(sequence))).unwrap();
        }
        self.bounds.send_replace(window.bounds());
    }

    fn begin_anew(&self, log: LogId) {
        let mut window = self.window.lock();
        window.begin_anew(log, Sequence::START);
        self.bounds.send_replace(window.bounds());
    }
}

impl Log for Api {
    fn subscribe(&self) -> watch::Receiver<Bounds> {
        self.bounds.subscribe()
    }

    fn age(&self) -> Duration {
        let cut_off_at = *self.cut_off_at.lock();
        cut_off_at.map_or(Duration::ZERO, |at| at.elapsed())
    }

    async fn read_after(
        &self,
        after: Sequence,
        entries_max: usize,
    ) -> Result<Vec<Arc<Entry>>, Missing> {
        let window = self.window.lock();
        window.read_after(after, entries_max).ok_or(Missing::Behind)
    }

    fn report(&self, reports: Vec<Report>) -> Result<(), Refused> {
        for report in reports {
            let node = report.node.as_str().to_owned();
            for line in &report.applied {
                let key = (node.clone(), line.sequence.0);
                self.applied.lock().insert(key, line.clone());
            }
            self.reports.lock().insert(node, report);
        }
        Ok(())
    }
}

fn entry(sequence: Sequence) -> Entry {
    Entry {
        sequence,
        id: PurgeId { log: LOG, sequence },
        accepted_at: UnixMillis(0),
        request: PurgeRequest {
            target: Target::All,
            mode: Mode::Hard,
        },
        dry_run: false,
        by: "test".to_owned(),
    }
}

/// Notes what a node would do.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Apply for Notes {
    fn apply(&self, entry: &Entry) -> Counts {
        self.0.lock().push(entry.sequence.to_string());
        Counts {
            responses: entry.sequence.0,
            ..Counts::default()
        }
    }

    fn reset(&self, through: Sequence) -> Counts {
        self.0.lock().push(format!("reset {through}"));
        Counts::default()
    }
}

impl Notes {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

struct TestNode {
    follower: Follower,
    notes: Arc<Notes>,
    tasks: Tasks,
}

fn node(
    net: &Net,
    name: &str,
    parents: &[&str],
    change: impl FnOnce(&mut FollowConfig),
) -> TestNode {
    let notes = Arc::new(Notes::default());
    let apply = Arc::clone(&notes) as Arc<dyn Apply>;
    TestNode {
        notes,
        ..node_with(net, name, parents, change, apply)
    }
}

fn node_with(
    net: &Net,
    name: &str,
    parents: &[&str],
    change: impl FnOnce(&mut FollowConfig),
    apply: Arc<dyn Apply>,
) -> TestNode {
    let tasks = Tasks::new();
    let mut config = FollowConfig::new(name.parse().unwrap());
    change(&mut config);
    let parent = |parent: &&str| ParentConfig {
        name: (*parent).to_owned(),
        url: format!("http://{parent}").parse().unwrap(),
        weight: 1,
        h2c: false,
        ca_file: None,
        client_certificate: None,
        insecure_skip_verify: false,
        host: None,
        headers: http::HeaderMap::new(),
    };
    let upstream = UpstreamConfig {
        parents: parents.iter().map(parent).collect(),
        selection: Selection::Ordered,
        node_name: name.to_owned(),
        limits: UpstreamLimits::default(),
    };
    let connector = Connector::Simulated(Arc::new(net.clone()));
    let upstream = Upstream::new(upstream, connector, &tasks).unwrap();
    let clock = Clock::starting_at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    let follower = Follower::start(config, upstream, apply, clock, &tasks);
    let answering = follower.clone();
    net.listen(name, move |asked| {
        let answering = answering.clone();
        async move {
            let uri = &asked.head.uri;
            let Some(children) = answering.children() else {
                let mut response = Response::new(Full::default().boxed_unsync());
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                return response;
            };
            let query = uri.query().unwrap_or_default();
            children.answer(&asked.head.method, uri.path(), query, &asked.content)
        }
    });
    TestNode {
        follower,
        notes: Arc::default(),
        tasks,
    }
}

impl TestNode {
    async fn reach(&self, sequence: u64) {
        let mut standing = self.follower.watch();
        let reached = standing.wait_for(|s| {
            s.position.is_some() && s.applied() >= Sequence(sequence) && s.behind() == 0
        });
        reached.await.unwrap();
    }

    async fn until(&self, is_so: impl Fn(&Standing) -> bool) {
        self.follower.watch().wait_for(|s| is_so(s)).await.unwrap();
    }
}

/// Lets virtual time pass, and everything that happens meanwhile.
async fn pass(time: Duration) {
    let never = std::future::pending::<()>();
    tokio::time::timeout(time, never).await.ok();
}

const LAGGING_AFTER: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn purges_are_applied_in_order_at_once_and_reported_with_what_they_meant() {
    let net = Net::default();
    let api = Api::start(&net, 100);
    let fra = node(&net, "fra", &["api"], |_| {});
    fra.reach(0).await;
    let begun = Instant::now();
    api.purge(3);
    fra.reach(3).await;
    assert_eq!(
        begun.elapsed(),
        Duration::ZERO,
        "no time passes: nothing polls"
    );
    assert_eq!(fra.notes.take(), ["reset 0", "1", "2", "3"]);
    pass(Duration::from_millis(1)).await;
    assert_eq!(api.reports.lock()["fra"].through, Sequence(3));
    let applied = api.applied.lock();
    assert_eq!(applied[&("fra".to_owned(), 2)].counts.responses, 2);
}

#[tokio::test(start_paused = true)]
async fn f31_a_node_that_was_cut_off_goes_on_where_it_was_and_nothing_is_lost() {
    let net = Net::default();
    let api = Api::start(&net, 1000);
    let fra = node(&net, "fra", &["api"], |_| {});
    api.purge(1);
    fra.reach(1).await;
    net.set_up("api", false);
    fra.until(|s| !s.is_connected).await;
    api.purge(100);
    pass(Duration::from_secs(600)).await;
    assert!(matches!(fra.follower.state(), State::Lagging { .. }));
    assert_eq!(fra.notes.take(), ["reset 0", "1"]);
    let begun = Instant::now();
    net.set_up("api", true);
    fra.reach(101).await;
    let expected: Vec<_> = (2..=101).map(|n: u64| n.to_string()).collect();
    assert_eq!(fra.notes.take(), expected);
    let limits = FollowConfig::new("x".parse().unwrap()).backoff_max
        + UpstreamLimits::default().backoff_max * 2;
    assert!(begun.elapsed() <= limits, "{:?}", begun.elapsed());
    assert_eq!(fra.follower.state(), State::Current);
}

#[tokio::test(start_paused = true)]
async fn f30_a_node_leaves_an_api_that_is_cut_off_from_its_log_for_one_that_is_not() {
    let net = Net::default();
    let [first, second] = ["first", "second"].map(|name| Api::start_as(name, &net, 100));
    let fra = node(&net, "fra", &["first", "second"], |_| {});
    for api in [&first, &second] {
        api.purge(1);
    }
    fra.reach(1).await;
    // Its feed goes on, and says how old what it knows is.
    *first.cut_off_at.lock() = Some(Instant::now());
    second.purge(2);
    fra.reach(3).await;
    fra.until(|s| s.lag(Instant::now()).is_zero()).await;
    assert_eq!(fra.follower.state(), State::Current);
    assert_eq!(fra.notes.take(), ["reset 0", "1", "2", "3"]);
    // What it reports goes there, too.
    pass(LAGGING_AFTER).await;
    assert_eq!(second.reports.lock()["fra"].through, Sequence(3));
    // With nobody better it stays, and says that it lags.
    net.set_up("second", false);
    pass(LAGGING_AFTER * 10).await;
    assert!(matches!(fra.follower.state(), State::Lagging { .. }));
    net.set_up("second", true);
    second.purge(1);
    fra.reach(4).await;
}

#[tokio::test(start_paused = true)]
async fn f29_a_node_asks_another_api_before_the_one_that_it_lost() {
    let net = Net::default();
    let first = Api::start_as("first", &net, 100);
    let second = Api::start_as("second", &net, 100);
    let fra = node(&net, "fra", &["first", "second"], |_| {});
    for api in [&first, &second] {
        api.purge(1);
    }
    fra.reach(1).await;
    // It takes connections and answers nothing any more.
    net.set_up("first", false);
    net.listen("first", |_| std::future::pending());
    let begun = Instant::now();
    second.purge(1);
    fra.reach(2).await;
    let backoff_max = FollowConfig::new("x".parse().unwrap()).backoff_max;
    assert!(begun.elapsed() <= backoff_max, "{:?}", begun.elapsed());
    assert_eq!(fra.notes.take(), ["reset 0", "1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn f31_what_waited_while_the_process_was_stopped_does_not_confirm_that_it_knows_all() {
    let net = Net::default();
    let (said, to_say) = tokio::sync::mpsc::channel::<Message>(8);
    let to_say = Arc::new(Mutex::new(Some(to_say)));
    net.listen("api", move |asked| {
        let to_say = Arc::clone(&to_say);
        async move {
            if asked.head.uri.path() != FEED_PATH {
                return Response::new(Full::default().boxed_unsync());
            }
            // There is one connection; a second one gets no answer.
            let Some(to_say) = to_say.lock().take() else {
                return std::future::pending().await;
            };
            let frames = futures_util::stream::unfold(to_say, async |mut to_say| {
                let mut line = Vec::new();
                to_say.recv().await?.write_to(&mut line);
                Some((Ok(Frame::data(Bytes::from(line))), to_say))
            });
            Response::new(StreamBody::new(frames).boxed_unsync())
        }
    });
    let fra = node(&net, "fra", &["api"], |_| {});
    let beat = || Message::Heartbeat {
        head: Sequence::START,
        age_ms: 0,
    };
    let after = Sequence::START;
    said.send(Message::Begin { log: LOG, after }).await.unwrap();
    said.send(beat()).await.unwrap();
    fra.until(|s| s.confirmed_at.is_some()).await;
    // It is said, and before anybody here can hear it a minute has passed.
    said.try_send(beat()).unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;
    fra.until(|s| !s.is_connected).await;
    assert!(matches!(fra.follower.state(), State::Lagging { .. }));
}

#[tokio::test(start_paused = true)]
async fn f33_a_node_that_missed_more_than_is_kept_makes_everything_stale() {
    let net = Net::default();
    let api = Api::start(&net, 10);
    let fra = node(&net, "fra", &["api"], |_| {});
    api.purge(1);
    fra.reach(1).await;
    fra.notes.take();
    net.set_up("api", false);
    fra.until(|s| !s.is_connected).await;
    api.purge(50);
    net.set_up("api", true);
    fra.reach(51).await;
    api.purge(1);
    fra.reach(52).await;
    assert_eq!(fra.notes.take(), ["reset 51", "52"]);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_lost_and_begun_anew_is_not_taken_for_the_old_one() {
    let net = Net::default();
    let api = Api::start(&net, 10);
    let fra = node(&net, "fra", &["api"], |_| {});
    api.purge(5);
    fra.reach(5).await;
    fra.notes.take();
    net.set_up("api", false);
    fra.until(|s| !s.is_connected).await;
    api.begin_anew(LogId(8));
    net.set_up("api", true);
    fra.until(|s| s.position.is_some_and(|p| p.log == LogId(8)))
        .await;
    assert_eq!(fra.notes.take(), ["reset 0"]);
    let old = Position {
        log: LOG,
        applied: Sequence(1),
    };
    assert!(!fra.follower.wait_until(old, Duration::from_secs(1)).await);
}

#[tokio::test(start_paused = true)]
async fn a_silent_log_is_current_and_a_lost_one_lags_by_its_last_heartbeat() {
    let net = Net::default();
    let _api = Api::start(&net, 10);
    let fra = node(&net, "fra", &["api"], |c| {
        c.when_lagging = WhenLagging::Fence
    });
    assert_eq!(fra.follower.state(), State::Starting);
    assert_eq!(
        fra.follower.verdict(),
        Verdict::Fence,
        "nothing is known yet"
    );
    fra.until(|s| s.confirmed_at.is_some()).await;
    assert_eq!(fra.follower.verdict(), Verdict::Serve);
    pass(Duration::from_secs(60)).await;
    assert_eq!(fra.follower.state(), State::Current);
    net.set_up("api", false);
    fra.until(|s| !s.is_connected).await;
    let confirmed_at = fra.follower.standing().confirmed_at.unwrap();
    assert!(confirmed_at.elapsed() <= HEARTBEAT);
    tokio::time::sleep_until(confirmed_at + LAGGING_AFTER).await;
    assert_eq!(fra.follower.state(), State::Current);
    pass(Duration::from_millis(2)).await;
    let since = confirmed_at;
    assert_eq!(fra.follower.state(), State::Lagging { since });
    assert_eq!(fra.follower.verdict(), Verdict::Fence);
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_heartbeats_is_given_up() {
    let net = Net::default();
    let api = Api::start(&net, 10);
    api.purge(2);
    let opened = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (counting, answering) = (Arc::clone(&opened), api.clone());
    net.listen("mute", move |asked| {
        let first = counting.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        let begin = Message::Begin {
            log: LOG,
            after: Sequence(1),
        };
        let response = if first {
            let mut line = Vec::new();
            begin.write_to(&mut line);
            let frames = futures_util::stream::iter([Ok(Frame::data(Bytes::from(line)))]);
            let frames = frames.chain(futures_util::stream::pending());
            Response::new(StreamBody::new(frames).boxed_unsync())
        } else {
            answering.answer(&asked)
        };
        std::future::ready(response)
    });
    let fra = node(&net, "fra", &["mute"], |_| {});
    fra.reach(2).await;
    assert_eq!(fra.notes.take(), ["reset 1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_feeds_its_children_and_passes_their_reports_on() {
    let net = Net::default();
    let api = Api::start(&net, 100);
    let shield = node(&net, "shield", &["api"], |_| {});
    let edge = node(&net, "edge", &["shield"], |_| {});
    edge.until(|s| s.confirmed_at.is_some()).await;
    let begun = Instant::now();
    api.purge(2);
    edge.reach(2).await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(
        shield.follower.standing().applied(),
        Sequence(2),
        "parents first"
    );
    pass(Duration::from_millis(1)).await;
    assert_eq!(api.reports.lock()["edge"].through, Sequence(2));
    assert!(api.applied.lock().contains_key(&("edge".to_owned(), 2)));
    assert!(api.applied.lock().contains_key(&("shield".to_owned(), 2)));
    pass(Duration::from_secs(60)).await;
    assert_eq!(edge.follower.state(), State::Current);
}

#[tokio::test(start_paused = true)]
async fn a_child_of_a_node_that_is_cut_off_knows_that_its_knowledge_ages() {
    let net = Net::default();
    let _api = Api::start(&net, 100);
    let shield = node(&net, "shield", &["api"], |_| {});
    let edge = node(&net, "edge", &["shield"], |_| {});
    edge.until(|s| s.confirmed_at.is_some()).await;
    net.set_up("api", false);
    shield.until(|s| !s.is_connected).await;
    pass(LAGGING_AFTER * 2).await;
    assert!(edge.follower.standing().is_connected);
    assert!(matches!(edge.follower.state(), State::Lagging { .. }));
    net.set_up("api", true);
    pass(Duration::from_secs(120)).await;
    assert_eq!(edge.follower.state(), State::Current);
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_restarts_does_not_reset_children_that_are_within_its_window() {
    let net = Net::default();
    let api = Api::start(&net, 100);
    let shield = node(&net, "shield", &["api"], |_| {});
    let edge = node(&net, "edge", &["shield"], |_| {});
    api.purge(3);
    edge.reach(3).await;
    edge.notes.take();
    net.set_up("shield", false);
    assert_eq!(shield.tasks.end(Duration::from_secs(1)).await, 0);
    api.purge(2);
    let _shield = node(&net, "shield", &["api"], |_| {});
    edge.reach(5).await;
    assert_eq!(edge.notes.take(), ["4", "5"]);
}

#[tokio::test(start_paused = true)]
async fn f28_a_child_that_is_ahead_waits_for_its_parent_or_is_told_that_it_is_late() {
    let net = Net::default();
    let api = Api::start(&net, 100);
    let shield = node(&net, "shield", &["api"], |_| {});
    shield.reach(0).await;
    let ahead = Position {
        log: LOG,
        applied: Sequence(1),
    };
    let limit = Duration::from_millis(200);
    let begun = Instant::now();
    assert!(!shield.follower.wait_until(ahead, limit).await);
    assert_eq!(begun.elapsed(), limit);
    let waiting = shield.follower.wait_until(ahead, limit);
    let purging = async { api.purge(1) };
    let (is_reached, ()) = tokio::join!(waiting, purging);
    assert!(is_reached);
    assert_eq!(begun.elapsed(), limit, "at once");
}

#[tokio::test(start_paused = true)]
async fn f33_whatever_a_feed_says_purges_are_applied_once_and_in_order() {
    let net = Net::default();
    let api = Api::start(&net, 100);
    let line = |message: Message| {
        let mut line = Vec::new();
        message.write_to(&mut line);
        Bytes::from(line)
    };
    let begin = line(Message::Begin {
        log: LOG,
        after: Sequence::START,
    });
    let purge = |n| line(Message::Entry(entry(Sequence(n))));
    *api.script.lock() = vec![
        begin,
        purge(1),
        purge(1),
        purge(2),
        Bytes::from_static(b"{\"type\":\"entry\",\"sequ\xff\n"),
        purge(3),
    ];
    let fra = node(&net, "fra", &["api"], |_| {});
    api.purge(4);
    fra.reach(4).await;
    assert_eq!(fra.notes.take(), ["reset 0", "1", "2", "3", "4"]);
}

#[tokio::test(start_paused = true)]
async fn the_second_parent_is_followed_when_the_first_is_gone() {
    let net = Net::default();
    let api = Api::start(&net, 100);
    let (first, second) = (api.clone(), api.clone());
    net.listen("a", move |asked| std::future::ready(first.answer(&asked)));
    net.listen("b", move |asked| std::future::ready(second.answer(&asked)));
    let fra = node(&net, "fra", &["a", "b"], |_| {});
    api.purge(1);
    fra.reach(1).await;
    net.set_up("a", false);
    fra.until(|s| !s.is_connected).await;
    api.purge(1);
    fra.reach(2).await;
    assert_eq!(fra.notes.take(), ["reset 0", "1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn one_child_too_many_is_refused_and_a_child_that_leaves_makes_room() {
    let net = Net::default();
    let _api = Api::start(&net, 100);
    let shield = node(&net, "shield", &["api"], |c| c.children_max = 1);
    shield.reach(0).await;
    let children = shield.follower.children().unwrap();
    let follow = |query: &str| children.answer(&Method::GET, FEED_PATH, query, b"");
    let first = follow("node=a&latest=0");
    assert_eq!(first.status(), StatusCode::OK);
    let second = follow("node=b&latest=0");
    assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
    drop(first);
    assert_eq!(follow("node=b&latest=0").status(), StatusCode::OK);
    assert_eq!(follow("latest=0").status(), StatusCode::BAD_REQUEST);
    let posted = children.answer(&Method::POST, FEED_PATH, "", b"");
    assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);
    let reported = children.answer(&Method::POST, REPORTS_PATH, "", b"[");
    assert_eq!(reported.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test(start_paused = true)]
async fn invariant_5_while_a_purge_is_applied_it_is_in_the_minimum_and_not_yet_in_the_position() {
    #[derive(Default)]
    struct Looks {
        follower: OnceLock<Follower>,
        seen: Mutex<Vec<(u64, u64)>>,
    }
    impl Apply for Looks {
        fn apply(&self, _: &Entry) -> Counts {
            let standing = self.follower.get().unwrap().standing();
            let minimum = standing.minimum.unwrap().applied;
            self.seen.lock().push((minimum.0, standing.applied().0));
            Counts::default()
        }
        fn reset(&self, _: Sequence) -> Counts {
            Counts::default()
        }
    }
    let net = Net::default();
    let api = Api::start(&net, 100);
    let looks = Arc::new(Looks::default());
    let fra = node_with(
        &net,
        "fra",
        &["api"],
        |_| {},
        Arc::clone(&looks) as Arc<dyn Apply>,
    );
    looks.follower.set(fra.follower.clone()).unwrap();
    api.purge(2);
    fra.reach(2).await;
    assert_eq!(*looks.seen.lock(), [(1, 0), (2, 1)]);
}

#[test]
fn pauses_double_up_to_their_limit_and_differ_between_nodes() {
    let pauses = |name: &str| {
        let mut backoff = follow::Backoff::new(&FollowConfig::new(name.parse().unwrap()));
        (0..10).map(|_| backoff.next()).collect::<Vec<_>>()
    };
    let (fra, sin) = (pauses("fra"), pauses("sin"));
    assert_ne!(fra, sin);
    for pauses in [fra, sin] {
        for (n, pause) in pauses.iter().enumerate() {
            let due = Duration::from_millis(100 << n).min(Duration::from_secs(5));
            assert!((due / 2..=due).contains(pause), "{pause:?}");
        }
    }
}
