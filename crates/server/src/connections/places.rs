//! Who has a place? A table of the open connections, each busy with a request or idle.
//!
//! Where there is no place left, the connection that has been idle longest makes room: of the newcomer's own address where that has its share, else of
//! all. Where nobody is idle, a few reserved places are left, on which probes are answered and everything else is told to come later. So neither
//! idle clients nor busy ones keep a probe from its answer.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How many connections there may be, and how long they may be idle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// All, but for the reserved ones.
    pub(crate) all: usize,
    /// Of one address.
    pub(crate) of_address: usize,
    /// Beside all.
    pub(crate) reserved: usize,
    /// For the whole of a request's line and headers.
    pub(crate) head_time: Duration,
    /// Between two requests.
    pub(crate) idle_time: Duration,
}

/// Why a connection was closed by the server, or never served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// Another one needed its place.
    Room,
    /// No further request came.
    Idle,
    /// The line and headers of a request did not come in time.
    SlowHead,
    /// There was no place.
    Refused,
}

impl Closed {
    /// The values of the label `reason`.
    pub(crate) const NAMES: [&'static str; 4] = ["room", "idle", "slow_head", "refused"];

    pub(crate) fn name(self) -> &'static str {
        Closed::NAMES[self as usize]
    }
}

/// The table. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bounds: Bounds,
    began: Instant,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    n_entered: u64,
    n_turn: u64,
    n_reserved: usize,
    seats: HashMap<u64, Seat>,
    /// Without the reserved ones.
    addresses: HashMap<IpAddr, usize>,
    /// The idle ones, oldest first.
    idle: BTreeMap<u64, u64>,
}

#[derive(Debug)]
struct Seat {
    address: IpAddr,
    is_reserved: bool,
    /// Its place among the idle ones.
    turn: Option<u64>,
    since: Instant,
    state: Arc<State>,
}

/// What a connection and the table know of each other.
#[derive(Debug, Default)]
struct State {
    n_request: AtomicUsize,
    /// When the head of a request began, in milliseconds since the table did, plus one; 0 where none has.
    head: AtomicU64,
    is_closing: AtomicBool,
    close: Notify,
}

/// A connection's place; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Place {
    shared: Arc<Shared>,
    id: u64,
    is_reserved: bool,
    state: Arc<State>,
}

/// A request under way; the connection is idle again when the last is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Place>);

impl Places {
    pub(crate) fn new(bounds: Bounds) -> Places {
        Places(Arc::new(Shared { bounds, began: Instant::now(), table: Mutex::default() }))
    }

    /// A place for a connection from there, and whether another was closed for it; `None` where every place is busy.
    pub(crate) fn enter(&self, address: IpAddr) -> (Option<Place>, Option<Closed>) {
        let (bounds, network) = (&self.0.bounds, network(address));
        let mut table = self.0.lock();
        let (mut has_room, mut closed) = (true, None);
        if table.addresses.get(&network).is_some_and(|&n| n >= bounds.of_address) {
            has_room = table.close_oldest(|seat| !seat.is_reserved && seat.address == network);
            closed = has_room.then_some(Closed::Room);
        } else if table.seats.len() - table.n_reserved >= bounds.all {
            has_room = table.close_oldest(|seat| !seat.is_reserved);
            closed = has_room.then_some(Closed::Room);
        }
        if !has_room && table.n_reserved >= bounds.reserved {
            if !table.close_oldest(|seat| seat.is_reserved) {
                return (None, Some(Closed::Refused));
            }
            closed = Some(Closed::Room);
        }
        (Some(self.seat(&mut table, network, !has_room)), closed)
    }

    fn seat(&self, table: &mut Table, address: IpAddr, is_reserved: bool) -> Place {
        let state = Arc::new(State::default());
        // A connection that says nothing is one whose first head is late.
        state.head.store(self.0.now(), Ordering::Relaxed);
        table.n_entered += 1;
        let id = table.n_entered;
        let turn = table.turn(id);
        let seat =
            Seat { address, is_reserved, turn: Some(turn), since: Instant::now(), state: Arc::clone(&state) };
        table.seats.insert(id, seat);
        if is_reserved {
            table.n_reserved += 1;
        } else {
            *table.addresses.entry(address).or_default() += 1;
        }
        Place { shared: Arc::clone(&self.0), id, is_reserved, state }
    }

    /// Closes the connection that has been idle longest, if there is one.
    pub(crate) fn make_room(&self) -> bool {
        self.0.lock().close_oldest(|_| true)
    }

    /// Closes those that have been idle for too long, and says why each of them.
    pub(crate) fn sweep(&self) -> Vec<Closed> {
        let Shared { bounds, .. } = &*self.0;
        let (now, ticks) = (Instant::now(), self.0.now());
        let head_time = u64::try_from(bounds.head_time.as_millis()).unwrap_or(u64::MAX);
        let mut table = self.0.lock();
        let late: Vec<(u64, Closed)> = table
            .seats
            .iter()
            .filter(|(_, seat)| seat.turn.is_some())
            .filter_map(|(&id, seat)| match seat.state.head.load(Ordering::Relaxed) {
                0 => (now.duration_since(seat.since) > bounds.idle_time).then_some((id, Closed::Idle)),
                head => (ticks.saturating_sub(head) > head_time).then_some((id, Closed::SlowHead)),
            })
            .collect();
        late.into_iter()
            .map(|(id, why)| {
                table.close(id);
                why
            })
            .collect()
    }
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// The table is whole after every operation, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The last place among the idle ones.
    fn turn(&mut self, id: u64) -> u64 {
        self.n_turn += 1;
        self.idle.insert(self.n_turn, id);
        self.n_turn
    }

    /// Closes the first of the idle ones for which this holds.
    fn close_oldest(&mut self, holds: impl Fn(&Seat) -> bool) -> bool {
        let found = self.idle.values().copied().find(|id| self.seats.get(id).is_some_and(&holds));
        found.is_some_and(|id| self.close(id))
    }

    /// Tells a connection to close. Its place is free at once: it has nothing left to say but to be rid of.
    fn close(&mut self, id: u64) -> bool {
        let Some(seat) = self.leave(id) else { return false };
        seat.state.is_closing.store(true, Ordering::Relaxed);
        seat.state.close.notify_one();
        true
    }

    fn leave(&mut self, id: u64) -> Option<Seat> {
        let seat = self.seats.remove(&id)?;
        if let Some(turn) = seat.turn {
            self.idle.remove(&turn);
        }
        if seat.is_reserved {
            self.n_reserved -= 1;
        } else if let Some(n) = self.addresses.get_mut(&seat.address) {
            *n -= 1;
            if *n == 0 {
                self.addresses.remove(&seat.address);
            }
        }
        Some(seat)
    }
}

impl Place {
    /// Whether nothing but probes is answered here.
    pub(crate) fn is_reserved(&self) -> bool {
        self.is_reserved
    }

    /// Bytes have come from the client.
    pub(crate) fn heard(&self) {
        let State { n_request, head, .. } = &*self.state;
        if n_request.load(Ordering::Relaxed) == 0 && head.load(Ordering::Relaxed) == 0 {
            head.store(self.shared.now(), Ordering::Relaxed);
        }
    }

    /// A request is there.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        if self.state.n_request.fetch_add(1, Ordering::Relaxed) == 0 {
            let mut table = self.shared.lock();
            self.state.head.store(0, Ordering::Relaxed);
            let turn = table.seats.get_mut(&self.id).and_then(|seat| seat.turn.take());
            if let Some(turn) = turn {
                table.idle.remove(&turn);
            }
        }
        Busy(Arc::clone(self))
    }

    /// Whether a request is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.state.n_request.load(Ordering::Relaxed) > 0
    }

    /// Returns once the connection is to be closed.
    pub(crate) async fn closing(&self) {
        while !self.state.is_closing.load(Ordering::Relaxed) {
            self.state.close.notified().await;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Place { shared, id, state, .. } = &*self.0;
        if state.n_request.fetch_sub(1, Ordering::Relaxed) == 1 {
            let mut table = shared.lock();
            if table.seats.contains_key(id) {
                let turn = table.turn(*id);
                if let Some(seat) = table.seats.get_mut(id) {
                    seat.turn = Some(turn);
                    seat.since = Instant::now();
                }
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.lock().leave(self.id);
    }
}

/// What counts as one address: of IPv6 the /64 that one network has.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        all: 4,
        of_address: 3,
        reserved: 1,
        head_time: Duration::from_millis(40),
        idle_time: Duration::from_millis(150),
    };

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn entered(places: &Places, last: u8) -> Arc<Place> {
        Arc::new(places.enter(ip(last)).0.unwrap())
    }

    fn is_closing(place: &Place) -> bool {
        place.state.is_closing.load(Ordering::Relaxed)
    }

    #[test]
    fn the_oldest_idle_connection_of_all_makes_room() {
        let places = Places::new(BOUNDS);
        let open: Vec<_> = [1, 1, 2, 2].map(|last| entered(&places, last)).into();
        let _busy = open[0].begin();
        let (fifth, closed) = places.enter(ip(3));
        assert_eq!((fifth.unwrap().is_reserved(), closed), (false, Some(Closed::Room)));
        assert_eq!(
            open.iter().map(|place| is_closing(place)).collect::<Vec<_>>(),
            [false, true, false, false]
        );
    }

    #[test]
    fn an_address_has_its_share_and_its_own_oldest_makes_room() {
        let places = Places::new(BOUNDS);
        let other = entered(&places, 2);
        let open: Vec<_> = [1, 1, 1].map(|last| entered(&places, last)).into();
        assert_eq!(places.enter(ip(1)).1, Some(Closed::Room));
        assert!(is_closing(&open[0]) && !is_closing(&other));
        // What was dropped again left its share: the third is there, and idle.
        assert!(!is_closing(&open[1]));
    }

    #[test]
    fn a_reserved_place_is_left_where_all_are_busy() {
        let places = Places::new(BOUNDS);
        let open: Vec<_> = [1, 1, 2, 2].map(|last| entered(&places, last)).into();
        let busy: Vec<_> = open.iter().map(Place::begin).collect();
        let probe = entered(&places, 3);
        assert!(probe.is_reserved());
        // The next one takes the place of a probe that is idle; a busy one keeps it.
        let second = entered(&places, 3);
        assert!(is_closing(&probe) && second.is_reserved());
        let answering = second.begin();
        assert!(matches!(places.enter(ip(3)), (None, Some(Closed::Refused))));
        drop(answering);
        drop(busy);
        assert!(!entered(&places, 3).is_reserved());
    }

    #[test]
    fn late_heads_and_idle_connections_are_swept() {
        let places = Places::new(BOUNDS);
        let (silent, idle, late) = (entered(&places, 1), entered(&places, 1), entered(&places, 2));
        drop((idle.begin(), late.begin()));
        assert!(places.sweep().is_empty());
        late.heard();
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(places.sweep(), [Closed::SlowHead; 2]);
        assert!(is_closing(&silent) && is_closing(&late) && !is_closing(&idle));
        let busy = idle.begin();
        std::thread::sleep(Duration::from_millis(160));
        assert!(places.sweep().is_empty());
        drop(busy);
        std::thread::sleep(Duration::from_millis(160));
        assert_eq!(places.sweep(), [Closed::Idle]);
    }

    #[test]
    fn a_place_that_is_given_back_can_be_taken_again() {
        let places = Places::new(BOUNDS);
        for _ in 0..10 {
            let open: Vec<_> = [1, 1, 2, 2].map(|last| entered(&places, last)).into();
            assert!(open.iter().all(|place| !place.is_reserved() && !is_closing(place)));
        }
        let table = places.0.lock();
        assert!(table.seats.is_empty() && table.idle.is_empty() && table.addresses.is_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
