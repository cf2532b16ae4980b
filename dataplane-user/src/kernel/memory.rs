//! The process's own memory: what it has done with goes back to the kernel.
//!
//! The C library keeps freed memory for the next time. An agent needs most of its memory at its start, to read the eBPF object and the
//! kernel's type information, and for answers about thousands of ports; then little for weeks. This is about glibc's `malloc`; another
//! library's is left as it is.

/// Makes `free` give memory back from now on. Call it before there are threads: each would have a heap of its own.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    {
        /// Bytes that are worth a system call: what is as long has pages of its own, and what is free at the heap's end is given back.
        /// glibc's own value, which it would otherwise raise to 64 MiB with every long allocation that is freed.
        const WORTH: libc::c_int = 128 << 10;
        // SAFETY: these change how later calls of malloc and free behave, and may be made at any time.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 1);
            libc::mallopt(libc::M_MMAP_THRESHOLD, WORTH);
            libc::mallopt(libc::M_TRIM_THRESHOLD, WORTH);
        }
    }
}

/// Gives back all that is free now, between what is in use, too.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it only touches what nobody uses.
    unsafe {
        libc::malloc_trim(0);
    }
}
