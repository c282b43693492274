//! Open files on their way from the namespace plane, which opens them, to the character plane, which has them.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use bpfdev_core::abi::Abi;

use crate::chardev::nodes::Claim;
use crate::chardev::quota::{Full, Part, Quota};

/// What an OPEN came to.
#[derive(Debug)]
pub struct Opening {
    /// The dialect of the node.
    pub abi: &'static Abi,
    /// O_WRONLY.
    pub write_only: bool,
    /// The inode it was opened by.
    pub inode: u64,
    /// The size that inode shows.
    pub size: Arc<AtomicU64>,
    /// The right to be the node's only opener.
    pub claim: Option<Claim>,
    /// What it takes of the files there may be.
    pub room: Part,
}

/// Open files, counted, and those whose OPEN the character plane has not seen answered yet.
#[derive(Debug)]
pub struct Opens {
    files: Arc<Quota>,
    opening: Mutex<HashMap<u64, Opening>>,
}

impl Opens {
    /// None open; they count in `files`.
    pub fn new(files: Arc<Quota>) -> Arc<Opens> {
        Arc::new(Opens { files, opening: Mutex::default() })
    }

    /// Room for one more file of this user, until the last of it is closed.
    ///
    /// # Errors
    /// [`Full`].
    pub fn room(&self, uid: u32) -> Result<Part, Full> {
        self.files.take(uid, 1)
    }

    /// The file `fh` is being opened: to be called before the reply to its OPEN is made.
    pub fn put(&self, fh: u64, opening: Opening) {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner).insert(fh, opening);
    }

    /// Takes over the file `fh`, whose OPEN is answered.
    pub fn take(&self, fh: u64) -> Option<Opening> {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner).remove(&fh)
    }
}
