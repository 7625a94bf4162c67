// System calls that Swift cannot see, because their headers hide them behind _GNU_SOURCE or a macro.
#ifndef CFILESHIMS_H
#define CFILESHIMS_H

#include "CProcessShims.h"

#include <stdint.h>

/// Reserves `bytes` bytes for the file from its start and makes it that long, so that a full disk is detected
/// before the work and not in the middle of it. Falls back to setting the length where the file system cannot
/// reserve. Returns 0 or an errno value.
int cfs_reserve(int descriptor, int64_t bytes);

/// Changes a file's length. Returns 0 or an errno value.
int cfs_set_length(int descriptor, int64_t bytes);

/// Reopens an open file for writes that bypass the page cache. `*memory` and `*offset` receive the required
/// alignments of addresses, and of offsets and lengths. Returns the descriptor, or a negative errno value:
/// EOPNOTSUPP if the file system does not report support for this, EMFILE if descriptors are running short.
int cfs_open_direct(int descriptor, uint32_t *memory, uint32_t *offset);

/// Renames between two open directories without replacing anything. Returns 0 or an errno value (EEXIST if `to` is
/// there).
int cfs_rename_exclusive(int from_directory, const char *from, int to_directory, const char *to);

/// Opens a name in an open directory; a symbolic link of that name is an error (ELOOP, or ENOTDIR with O_DIRECTORY).
/// Programs started later do not inherit the descriptor. Returns it, or a negative errno value.
int cfs_open_at(int directory, const char *name, int flags, unsigned mode);

/// Tells the kernel that a range will be read soon, so that it starts fetching. A hint: failures are ignored.
void cfs_prefetch(int descriptor, int64_t offset, int64_t bytes);

/// Tells the kernel that a range will not be needed again, so that a large copy does not push everything else out
/// of the page cache. A hint: failures are ignored.
void cfs_drop_cache(int descriptor, int64_t offset, int64_t bytes);

/// Flushes a file's data to the device: F_FULLFSYNC on macOS, fsync elsewhere. Returns 0 or an errno value.
int cfs_synchronize(int descriptor);

/// Takes an exclusive lock on a file, held until the descriptor is closed. Does not wait. Returns 0 or an errno value:
/// EWOULDBLOCK if another process holds it.
int cfs_lock(int descriptor);

/// Releases such a lock.
void cfs_unlock(int descriptor);

/// Raises the limit of open files to the hard limit.
void cfs_raise_open_file_limit(void);

#endif
