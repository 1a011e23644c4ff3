//! The builds under way. Three calls belong to one build, and name it: `Solve`, which lasts as long as it does, `Status`,
//! and those by which the client steers it. They come in any order.

use super::cache_options::Imports;
use super::provenance::Provenance;
use super::results::Results;
use coracle_buildkit::Progress;
use coracle_buildkit::proto::google::rpc::Status as Proto;
use coracle_buildkit::proto::moby::buildkit::v1::SolveRequest;
use coracle_buildkit::proto::pb::Definition;
use coracle_engine::build::{Allowed, Counting, Product};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};

/// How long a call waits for the `Solve` of its build.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many builds that have ended can still be asked what they told.
const ENDED: usize = 16;
/// Longest name of a build, in bytes.
const NAME: usize = 256;

/// What a client says at the end of steering.
#[derive(Debug)]
pub(super) enum Returned {
    /// This is the result; nothing, where nothing was built.
    Result(Option<Results>),
    /// It failed so.
    Failed(Proto),
}

/// A build under way.
#[derive(Debug)]
pub(super) struct Build {
    /// What its calls name it.
    pub(super) id: String,
    /// The session whose client lends what is needed.
    pub(super) session: String,
    /// What the client has given with it: definitions by name.
    pub(super) inputs: HashMap<String, Definition>,
    /// What commands of it may have that ask for it.
    pub(super) allowed: Allowed,
    /// What it tells.
    pub(super) progress: Progress,
    /// What its request says of caches.
    pub(super) caches: Caches,
    /// What is to be said of where the result comes from, if anything.
    pub(super) provenance: Option<Provenance>,
    /// Where its steps are counted.
    pub(super) counting: Arc<Counting>,
    results: Made,
    /// What holds them when the build is over.
    connection: Weak<Connection>,
    returned: Mutex<Option<oneshot::Sender<Returned>>>,
    over: watch::Sender<bool>,
}

/// What a build has made, by number.
type Made = Arc<Mutex<Vec<Arc<Product>>>>;

/// The connection by which a client asks for builds. What they have made stays as long as it does: `docker buildx` begins
/// another build to look into what one has made that is over.
#[derive(Debug, Default)]
pub(super) struct Connection {
    /// Of the builds that ended last.
    made: Mutex<VecDeque<Made>>,
}

impl Connection {
    fn keep(&self, results: &Made) {
        let mut made = lock(&self.made);
        made.push_back(Arc::clone(results));
        if made.len() > ENDED {
            // Nobody finds it any more: as many have ended since.
            made.pop_front();
        }
    }
}

impl Drop for Connection {
    /// Results go with their client, whoever still holds the build.
    fn drop(&mut self) {
        lock(&self.made).iter().for_each(|results| lock(results).clear());
    }
}

/// What a request says of its build besides what is built.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// What commands may have that ask for it.
    pub(super) allowed: Allowed,
    pub(super) caches: Caches,
    pub(super) provenance: Option<Provenance>,
}

/// What a request says of the caches of its build.
#[derive(Debug, Default)]
pub(super) struct Caches {
    /// Those that it is given.
    pub(super) imports: Imports,
    /// Whether the image is to be one.
    pub(super) inline: bool,
}

impl Build {
    /// Keeps a result, and says what it is called.
    pub(super) fn keep(&self, product: Arc<Product>) -> String {
        let mut results = lock(&self.results);
        results.push(product);
        format!("{}/{}", self.id, results.len() - 1)
    }

    /// Takes what the client returns. Whether it was the first time.
    pub(super) fn give(&self, returned: Returned) -> bool {
        let waiting = lock(&self.returned).take();
        waiting.is_some_and(|waiting| waiting.send(returned).is_ok())
    }

    /// Returns when the build is over, for those who work for it alone.
    pub(super) async fn over(&self) {
        let mut over = self.over.subscribe();
        // Its sender is part of this.
        let _ = over.wait_for(|over| *over).await;
    }
}

/// All builds.
#[derive(Debug, Default)]
pub(super) struct Builds {
    table: Mutex<Table>,
    opened: Notify,
}

#[derive(Debug, Default)]
struct Table {
    running: HashMap<String, Arc<Build>>,
    ended: VecDeque<Ended>,
}

/// One of the builds that ended last.
#[derive(Debug)]
struct Ended {
    id: String,
    /// What it has told.
    progress: Progress,
    /// What it has made, as long as its client stays.
    results: Made,
}

/// A build from `Solve` on. Dropped, the build is over.
#[derive(Debug)]
pub(super) struct Running<'a> {
    builds: &'a Builds,
    pub(super) build: Arc<Build>,
    pub(super) returned: oneshot::Receiver<Returned>,
}

impl Builds {
    /// Begins a build that was asked for by `connection`; nothing if there is one of that name.
    pub(super) fn begin(
        &self,
        request: &SolveRequest,
        wishes: Wishes,
        connection: &Arc<Connection>,
    ) -> Option<Running<'_>> {
        let id = request.r#ref.as_str();
        if id.is_empty() || id.len() > NAME {
            return None;
        }
        let (sender, returned) = oneshot::channel();
        let build = Arc::new(Build {
            id: id.to_owned(),
            session: request.session.clone(),
            inputs: request.frontend_inputs.clone(),
            allowed: wishes.allowed,
            progress: Progress::default(),
            caches: wishes.caches,
            provenance: wishes.provenance,
            counting: Arc::default(),
            results: Made::default(),
            connection: Arc::downgrade(connection),
            returned: Mutex::new(Some(sender)),
            over: watch::Sender::new(false),
        });
        let mut table = lock(&self.table);
        if table.running.contains_key(id) {
            return None;
        }
        table.running.insert(id.to_owned(), Arc::clone(&build));
        drop(table);
        self.opened.notify_waiters();
        Some(Running { builds: self, build, returned })
    }

    /// The build of that name, once it has begun.
    pub(super) async fn get(&self, id: &str) -> Option<Arc<Build>> {
        self.wait(|table| table.running.get(id).cloned()).await
    }

    /// What a build tells, also one that has ended.
    pub(super) async fn progress(&self, id: &str) -> Option<Progress> {
        self.wait(|table| {
            let running = table.running.get(id).map(|build| build.progress.clone());
            running.or_else(|| table.ended(id).map(|ended| ended.progress.clone()))
        })
        .await
    }

    /// The result of that name, of a build under way or of one whose client is still there.
    pub(super) fn result(&self, name: &str) -> Option<Arc<Product>> {
        let (id, number) = name.rsplit_once('/')?;
        let results = lock(&self.table).results(id)?;
        let results = lock(&results);
        results.get(number.parse::<usize>().ok()?).cloned()
    }

    async fn wait<T>(&self, find: impl Fn(&Table) -> Option<T>) -> Option<T> {
        let found = async {
            loop {
                let mut opened = std::pin::pin!(self.opened.notified());
                // Before looking, so that a build that begins in between is not missed.
                opened.as_mut().enable();
                let found = find(&lock(&self.table));
                if let Some(found) = found {
                    return found;
                }
                opened.await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.ok()
    }
}

impl Table {
    fn ended(&self, id: &str) -> Option<&Ended> {
        self.ended.iter().rev().find(|ended| ended.id == id)
    }

    fn results(&self, id: &str) -> Option<Made> {
        match self.running.get(id) {
            Some(build) => Some(Arc::clone(&build.results)),
            None => Some(Arc::clone(&self.ended(id)?.results)),
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.build.progress.end();
        let results = &self.build.results;
        match self.build.connection.upgrade() {
            Some(connection) => connection.keep(results),
            None => lock(results).clear(),
        }
        let mut table = lock(&self.builds.table);
        table.running.remove(&self.build.id);
        table.ended.push_back(Ended {
            id: self.build.id.clone(),
            progress: self.build.progress.clone(),
            results: Arc::clone(results),
        });
        let last = (table.ended.len() > ENDED).then(|| table.ended.pop_front()).flatten();
        drop(table);
        if let Some(last) = last {
            lock(&last.results).clear();
        }
        self.build.over.send_replace(true);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is under these locks is changed by single calls.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: &str, session: &str) -> SolveRequest {
        SolveRequest { r#ref: id.to_owned(), session: session.to_owned(), ..SolveRequest::default() }
    }

    #[tokio::test]
    async fn calls_of_a_build_come_in_any_order() {
        let (builds, connection) = (Arc::new(Builds::default()), Arc::default());
        let early = tokio::spawn({
            let builds = Arc::clone(&builds);
            async move { builds.get("one").await.map(|build| build.session.clone()) }
        });
        tokio::task::yield_now().await;
        let running = builds.begin(&request("one", "session"), Wishes::default(), &connection).unwrap();
        assert_eq!(early.await.unwrap().as_deref(), Some("session"));
        assert!(
            builds.begin(&request("one", "other"), Wishes::default(), &connection).is_none(),
            "a name is taken once"
        );
        let build = builds.get("one").await.unwrap();
        drop(running);
        build.over().await;
        let mut reader = builds.progress("one").await.unwrap().reader();
        assert!(reader.next().await.is_none(), "it has ended, and told nothing");
        assert!(builds.begin(&request("one", "again"), Wishes::default(), &connection).is_some());
    }

    #[tokio::test]
    async fn only_the_first_return_counts() {
        let (builds, connection) = (Builds::default(), Arc::default());
        let mut running = builds.begin(&request("one", ""), Wishes::default(), &connection).unwrap();
        assert!(running.build.give(Returned::Result(None)));
        assert!(!running.build.give(Returned::Failed(Proto::default())));
        assert!(matches!(running.returned.try_recv(), Ok(Returned::Result(None))));
    }

    #[test]
    fn builds_have_names() {
        let (builds, connection) = (Builds::default(), Arc::default());
        assert!(builds.begin(&request("", ""), Wishes::default(), &connection).is_none());
        assert!(builds.begin(&request(&"x".repeat(NAME + 1), ""), Wishes::default(), &connection).is_none());
    }
}
