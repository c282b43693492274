//! What there may be of something, in all and for one user; what there is; and how often more was asked for.
//!
//! Whoever takes a part has it until the part is dropped. Root's parts count in all, and have no limit of their own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::seldom::Seldom;

/// A user's or all users' limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In all.
    pub all: usize,
    /// For one user other than root.
    pub per_uid: usize,
}

/// There is no more of it for this user; what a caller is told is the errno of that request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

#[derive(Debug, Default)]
struct State {
    used: usize,
    by_uid: HashMap<u32, usize>,
    refused: u64,
}

/// What there is so much of, for the log.
#[derive(Clone, Copy, Debug)]
pub struct Thing {
    /// In the plural.
    pub name: &'static str,
    /// The option of `bpfdev serve` that sets its limit in all; with `-per-user` it sets a user's.
    pub option: &'static str,
    /// What a request for more of it fails with.
    pub errno: &'static str,
}

/// Something there is so much of.
#[derive(Debug)]
pub struct Quota {
    thing: Thing,
    said: Seldom,
    limits: Limits,
    state: Mutex<State>,
}

/// How a [`Quota`] stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What there may be.
    pub limits: Limits,
    /// What there is.
    pub used: usize,
    /// How often more was asked for than there may be.
    pub refused: u64,
    /// What each user has, by number.
    pub users: Vec<(u32, usize)>,
}

impl Quota {
    /// Nothing is taken.
    pub fn new(thing: Thing, limits: Limits) -> Arc<Quota> {
        Arc::new(Quota { thing, said: Seldom::new(), limits, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `amount` for the user `uid`.
    ///
    /// # Errors
    /// [`Full`], and that is counted.
    pub fn take(self: &Arc<Quota>, uid: u32, amount: usize) -> Result<Part, Full> {
        let mut state = self.lock();
        let own = state.by_uid.get(&uid).copied().unwrap_or(0).saturating_add(amount);
        let all = state.used.saturating_add(amount);
        if all > self.limits.all || (uid != 0 && own > self.limits.per_uid) {
            state.refused += 1;
            let refused = state.refused;
            drop(state);
            self.say(uid, all > self.limits.all, refused);
            return Err(Full);
        }
        state.used = all;
        state.by_uid.insert(uid, own);
        Ok(Part { of: self.clone(), uid, amount })
    }

    fn say(&self, uid: u32, in_all: bool, refused: u64) {
        let Thing { name, option, errno } = self.thing;
        if self.said.may_say() {
            let (whose, suffix) = if in_all { ("all users'", "") } else { ("this user's", "-per-user") };
            tracing::warn!(
                uid,
                refused,
                "{whose} limit on {name} is reached, the request fails with {errno}; \
                 bpfdev stat shows who has them, {option}{suffix} sets it"
            );
        }
    }

    /// How it stands now.
    pub fn usage(&self) -> Usage {
        let state = self.lock();
        let mut users: Vec<_> = state.by_uid.iter().map(|(&uid, &used)| (uid, used)).collect();
        users.sort_unstable();
        Usage { limits: self.limits, used: state.used, refused: state.refused, users }
    }

    fn give_back(&self, uid: u32, amount: usize) {
        let mut state = self.lock();
        state.used = state.used.saturating_sub(amount);
        if let Some(own) = state.by_uid.get_mut(&uid) {
            *own = own.saturating_sub(amount);
            if *own == 0 {
                state.by_uid.remove(&uid);
            }
        }
    }
}

/// A user's part; dropping it gives it back.
#[derive(Debug)]
pub struct Part {
    of: Arc<Quota>,
    uid: u32,
    amount: usize,
}

impl Part {
    /// How much it is.
    pub fn amount(&self) -> usize {
        self.amount
    }

    /// Gives back what is more than `amount`.
    pub fn shrink(&mut self, amount: usize) {
        if let Some(rest) = self.amount.checked_sub(amount) {
            self.amount = amount;
            self.of.give_back(self.uid, rest);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.of.give_back(self.uid, self.amount);
    }
}

/// Open files.
pub const FILES: Thing = Thing { name: "open files", option: "--max-open", errno: "EMFILE" };
/// Memory.
pub const MEMORY: Thing =
    Thing { name: "bytes of buffers and rings", option: "--max-memory", errno: "ENOBUFS" };
/// Requests.
pub const WAITING: Thing = Thing { name: "waiting requests", option: "--max-waiting", errno: "EBUSY" };

/// The limits that every file of a device counts in, whatever its transport.
#[derive(Clone, Debug)]
pub struct Quotas {
    /// Open files, until the last of each is closed.
    pub files: Arc<Quota>,
    /// Bytes of buffers and of rings.
    pub memory: Arc<Quota>,
    /// Requests that wait in a file: sleeping reads, and what came while the file was busy.
    pub waiting: Arc<Quota>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_his_share_root_all_and_both_count() {
        let quota = Quota::new(FILES, Limits { all: 10, per_uid: 4 });
        let mut parts = vec![quota.take(1000, 3).unwrap(), quota.take(1000, 1).unwrap()];
        assert_eq!(quota.take(1000, 1).err(), Some(Full), "his share is used up");
        parts.push(quota.take(0, 5).unwrap());
        assert_eq!(quota.take(1001, 2).err(), Some(Full), "there are ten in all");
        parts.push(quota.take(1001, 1).unwrap());
        let usage = quota.usage();
        assert_eq!((usage.used, usage.refused), (10, 2));
        assert_eq!(usage.users, [(0, 5), (1000, 4), (1001, 1)]);
        parts[2].shrink(2);
        assert_eq!((parts[2].amount(), quota.usage().used), (2, 7));
        parts[2].shrink(9);
        assert_eq!(quota.usage().used, 7, "it does not grow");
        drop(parts);
        assert_eq!((quota.usage().used, quota.usage().users.len()), (0, 0));
        assert_eq!(quota.take(0, usize::MAX).err(), Some(Full), "nothing overflows");
    }
}
