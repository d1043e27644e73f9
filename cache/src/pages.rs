//! Memory for bodies that the kernel can send without copying them.
//!
//! What lies here is also in a file: an anonymous one that this process alone has, mapped as a whole. So a body can be read
//! like any other memory, and a socket can be told to send that part of the file (`sendfile`), for which the kernel
//! takes the pages themselves. Address space costs nothing, pages exist only where something was written: a block has the
//! next power of two of addresses and the pages that it needs.
//!
//! A block of which a socket was told loses its pages before anybody gets its addresses again. That is what makes sending
//! from here safe: what is still on its way in a socket's queue holds the pages, not the addresses, so nobody can write to
//! it. Other blocks, those of a node that speaks TLS only, are given out again with their pages, up to a limit: to fetch
//! new ones takes longer than to fill them.
//!
//! Who calls it: `store`, for what is large; listeners ask where a slice of it lies. Where the system refuses any of it,
//! bodies are on the heap. Deliberately not here: sockets, and what is worth it.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::LazyLock;

use bytes::Bytes;
use parking_lot::Mutex;

use mapping::{Mapping, Marks};

mod mapping;

/// The largest block, in bytes.
const BLOCK_BYTES_MAX: usize = 1 << BLOCK_BITS_MAX;
const BLOCK_BITS_MAX: u32 = 26;
/// The addresses of the smallest block, in bytes.
const BLOCK_BYTES_MIN: usize = 1 << BLOCK_BITS_MIN;
const BLOCK_BITS_MIN: u32 = 15;
const SIZES: usize = (BLOCK_BITS_MAX - BLOCK_BITS_MIN + 1) as usize;

/// Addresses for all blocks there may be: many times the memory of a large machine, since each size keeps its own.
const REGION_BYTES: usize = 1 << 40;

/// What blocks that were given back may keep of memory until they are given out again.
const WARM_BYTES_MAX: usize = 64 << 20;

const PAGE_BYTES: usize = 4096;

static REGION: LazyLock<Option<Region>> =
    LazyLock::new(|| Region::new(REGION_BYTES, WARM_BYTES_MAX));

/// Begins a block of `bytes` in the region of this process; `None` if there is no place for it.
pub fn begin(bytes: usize) -> Option<Growing> {
    REGION.as_ref()?.begin(bytes)
}

/// Returns where in a file `slice` lies, if it is part of a block, which counts as sent from now on.
///
/// Whoever sends from there holds the slice until the system call is done.
pub fn locate(slice: &[u8]) -> Option<Location> {
    REGION.as_ref()?.locate(slice)
}

/// Part of a file.
#[derive(Clone, Copy, Debug)]
pub struct Location {
    /// The file. It is never closed.
    pub file: BorrowedFd<'static>,
    /// The first byte.
    pub offset: usize,
}

/// A block that is being written. Dropped before it is whole, it is given back.
#[derive(Debug)]
pub struct Growing {
    block: Block,
    written: usize,
}

impl Growing {
    /// Appends as much of `bytes` as there is room for.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = self.block.bytes - self.written;
        let bytes = bytes.get(..room).unwrap_or(bytes);
        self.block
            .region
            .mapping
            .write(self.block.offset + self.written, bytes);
        self.written += bytes.len();
    }

    /// Returns what was written. It never changes again.
    pub fn finish(self) -> Bytes {
        let Self { block, written } = self;
        Bytes::from_owner(Whole { block, written })
    }
}

/// A file, its mapping, and which of its addresses are taken.
#[derive(Debug)]
struct Region {
    mapping: Mapping,
    slots: Mutex<Slots>,
    /// Of which blocks a socket was told: any mark within one.
    sent: Marks,
    warm_bytes_max: usize,
}

#[derive(Debug, Default)]
struct Slots {
    /// Behind everything that was ever given out.
    fresh: usize,
    /// What was given back, by size.
    free: [Vec<Slot>; SIZES],
    /// The memory that these have.
    warm_bytes: usize,
}

/// Addresses for a block, and how many bytes of memory they have from their first on.
#[derive(Clone, Copy, Debug)]
struct Slot {
    offset: usize,
    warm_bytes: usize,
}

impl Region {
    fn new(bytes: usize, warm_bytes_max: usize) -> Option<Self> {
        Some(Self {
            mapping: Mapping::new(bytes).ok()?,
            slots: Mutex::default(),
            sent: Marks::new(bytes / BLOCK_BYTES_MIN),
            warm_bytes_max,
        })
    }

    fn begin(&'static self, bytes: usize) -> Option<Growing> {
        let size = size_of_block(bytes)?;
        let slot = self.slots.lock().take(size, self.mapping.bytes())?;
        let block = Block {
            region: self,
            offset: slot.offset,
            size,
            bytes,
        };
        if self.provide(&block, slot.warm_bytes).is_err() {
            // What memory it has is not known: it gives up all of it.
            self.sent.set(slot.offset / BLOCK_BYTES_MIN);
            return None;
        }
        Some(Growing { block, written: 0 })
    }

    /// Gives a block the memory that it is counted with; it has `warm_bytes`.
    fn provide(&self, block: &Block, warm_bytes: usize) -> io::Result<()> {
        let needed = block.memory_bytes();
        if warm_bytes < needed {
            // All at once is cheaper than a fault for each page, and says if there is no memory instead of ending the process.
            self.mapping.populate(block.offset, needed)
        } else if warm_bytes > needed {
            self.mapping
                .discard(block.offset + needed, warm_bytes - needed)
        } else {
            Ok(())
        }
    }

    fn locate(&'static self, slice: &[u8]) -> Option<Location> {
        let offset = self.mapping.offset_of(slice)?;
        self.sent.set(offset / BLOCK_BYTES_MIN);
        let file = self.mapping.file();
        Some(Location { file, offset })
    }

    fn give_back(&self, block: &Block) {
        let (offset, size, room) = (block.offset, block.size, BLOCK_BYTES_MIN << block.size);
        let marks = offset / BLOCK_BYTES_MIN..(offset + room) / BLOCK_BYTES_MIN;
        let was_sent = self.sent.take(marks);
        let warm_bytes = block.memory_bytes();
        if !was_sent {
            let mut slots = self.slots.lock();
            if slots.warm_bytes + warm_bytes <= self.warm_bytes_max {
                slots.warm_bytes += warm_bytes;
                slots.free[size].push(Slot { offset, warm_bytes });
                return;
            }
        }
        // What cannot lose its pages is not given out again.
        if self.mapping.discard(offset, room).is_ok() {
            let warm_bytes = 0;
            self.slots.lock().free[size].push(Slot { offset, warm_bytes });
        }
    }
}

impl Slots {
    fn take(&mut self, size: usize, region_bytes: usize) -> Option<Slot> {
        if let Some(slot) = self.free[size].pop() {
            self.warm_bytes -= slot.warm_bytes;
            return Some(slot);
        }
        let offset = self.fresh;
        let fresh = offset + (BLOCK_BYTES_MIN << size);
        if fresh > region_bytes {
            return None;
        }
        self.fresh = fresh;
        let warm_bytes = 0;
        Some(Slot { offset, warm_bytes })
    }
}

/// Returns which size of block has room for `bytes`.
fn size_of_block(bytes: usize) -> Option<usize> {
    if bytes == 0 || bytes > BLOCK_BYTES_MAX {
        return None;
    }
    let bits = bytes.next_power_of_two().trailing_zeros();
    Some(bits.saturating_sub(BLOCK_BITS_MIN) as usize)
}

/// Addresses that nobody else has.
///
/// Invariant: what lies there is written by [`Growing`] alone, and never once a slice of it was handed out.
#[derive(Debug)]
struct Block {
    region: &'static Region,
    offset: usize,
    size: usize,
    /// What was asked for. All of it has memory.
    bytes: usize,
}

impl Block {
    /// Returns the memory that it has, in bytes.
    fn memory_bytes(&self) -> usize {
        self.bytes.next_multiple_of(PAGE_BYTES)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.region.give_back(self);
    }
}

/// A block that is whole.
struct Whole {
    block: Block,
    written: usize,
}

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        self.block
            .region
            .mapping
            .read(self.block.offset, self.written)
    }
}

#[cfg(test)]
mod tests;
