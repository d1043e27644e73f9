//! An anonymous file and its mapping, and marks for its parts.
//!
//! All that the compiler cannot check about `pages` is here. Who calls it: `pages`, which sees to it that what is written
//! belongs to one block, and that nobody has a slice of that yet.

#![allow(
    unsafe_code,
    reason = "no library maps a file whose parts are written and read through different references"
)]

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

/// A file that this process alone has, and all of it as memory.
#[derive(Debug)]
pub(super) struct Mapping {
    file: OwnedFd,
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the addresses are the same in all threads, and live as long as this. What is read and written through them is
// kept apart by `pages`: a block is written by one owner, and read by others only once it is not written any more.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a new file of `bytes` bytes, none of which has memory yet.
    pub(super) fn new(bytes: usize) -> io::Result<Self> {
        let file = memfd_create("seawall-bodies", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, bytes as u64)?;
        let (access, flags) = (
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::NORESERVE,
        );
        // SAFETY: the system chooses addresses that nothing else has. The file is new and nobody else can shorten it.
        let start = unsafe { mmap(ptr::null_mut(), bytes, access, flags, &file, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let mapping = Self { file, start, bytes };
        // A large page would belong to several blocks; one of them could not be given back whole.
        mapping.advise(0, bytes, Advice::LinuxNoHugepage)?;
        // Bodies are not what a core dump is read for, and there are many.
        mapping.advise(0, bytes, Advice::LinuxDontDump)?;
        Ok(mapping)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives memory to `bytes` bytes from `offset` on, which is at the beginning of a page.
    pub(super) fn populate(&self, offset: usize, bytes: usize) -> io::Result<()> {
        self.advise(offset, bytes, Advice::LinuxPopulateWrite)
    }

    fn advise(&self, offset: usize, bytes: usize, advice: Advice) -> io::Result<()> {
        let start = self.at(offset, bytes);
        // SAFETY: these bytes are of this mapping, and none of the three advices that are given changes what they are.
        Ok(unsafe { madvise(start.as_ptr().cast(), bytes, advice) }?)
    }

    /// Takes the memory from `bytes` bytes from `offset` on, whole pages. Whoever holds one of the pages keeps it as it is;
    /// who reads these bytes afterward finds zeros.
    pub(super) fn discard(&self, offset: usize, bytes: usize) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(&self.file, flags, offset as u64, bytes as u64)?)
    }

    /// Writes `content` at `offset`; nobody has a slice of what is there.
    pub(super) fn write(&self, offset: usize, content: &[u8]) {
        let start = self.at(offset, content.len());
        // SAFETY: these bytes are of this mapping, and of a block that has one owner, who calls this: nobody else reads or
        // writes them, no socket was told of them since they have their pages, and `content` is not among them.
        unsafe { ptr::copy_nonoverlapping(content.as_ptr(), start.as_ptr(), content.len()) };
    }

    /// Returns what lies at `offset`, which is not written any more as long as the slice lives.
    pub(super) fn read(&self, offset: usize, bytes: usize) -> &[u8] {
        let start = self.at(offset, bytes);
        // SAFETY: these bytes are of this mapping, and of a block that is whole: it is not written again, and loses its
        // memory only when its owner is dropped, from whom the slice is borrowed. All bytes are valid as such.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), bytes) }
    }

    /// Returns where `slice` begins, if all of it is of this mapping.
    pub(super) fn offset_of(&self, slice: &[u8]) -> Option<usize> {
        let offset = (slice.as_ptr().addr()).checked_sub(self.start.as_ptr().addr())?;
        let end = offset.checked_add(slice.len())?;
        (end <= self.bytes).then_some(offset)
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn at(&self, offset: usize, bytes: usize) -> NonNull<u8> {
        let is_inside = offset
            .checked_add(bytes)
            .is_some_and(|end| end <= self.bytes);
        assert!(is_inside, "blocks lie within their region");
        // SAFETY: the result is within the mapping, or just behind it.
        unsafe { self.start.add(offset) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that was made, and no slice of it can be left: they are borrowed from this. That it
        // fails is not possible for a whole mapping, and would lose addresses only.
        unsafe { munmap(self.start.as_ptr().cast(), self.bytes) }.ok();
    }
}

/// A mark for each of many things, none of them set. Memory is taken for those that are near one that was set.
#[derive(Debug)]
pub(super) struct Marks(Box<[AtomicBool]>);

impl Marks {
    pub(super) fn new(count: usize) -> Self {
        let marks = Box::<[AtomicBool]>::new_zeroed_slice(count);
        // SAFETY: a byte of zero is a valid `AtomicBool`, false.
        Self(unsafe { marks.assume_init() })
    }

    pub(super) fn set(&self, index: usize) {
        if let Some(mark) = self.0.get(index) {
            // Whoever takes it has the block for itself by then, which orders this before.
            mark.store(true, Ordering::Relaxed);
        }
    }

    /// Takes all marks of `range` away; returns whether there was one.
    pub(super) fn take(&self, range: Range<usize>) -> bool {
        let marks = self.0.get(range).unwrap_or_default();
        let mut was_set = false;
        for mark in marks {
            // Reading alone takes no memory for those that were never set.
            if mark.load(Ordering::Relaxed) {
                mark.store(false, Ordering::Relaxed);
                was_set = true;
            }
        }
        was_set
    }
}
