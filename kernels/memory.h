/* Will it fit? Asked before the memory is taken, since a node that runs out kills without a word. And what was taken. */
#pragma once

#include "gram.h"

/**
  GramMemoryFits - Bytes per rank, summed over the ranks of each node, against the memory the node has available.

  Collective. Available is what the kernel says (MemAvailable), at most what the control group of the process and those
  it is in leave, and what SLURM granted the job on the node (--mem, --mem-per-cpu: SLURM_MEM_PER_NODE,
  SLURM_MEM_PER_CPU times SLURM_CPUS_ON_NODE) less what its ranks have resident already.

  @param[out] fits       on every node
  @param[out] need, have bytes on the node where it is tightest
**/
PetscErrorCode GramMemoryFits(MPI_Comm comm, PetscLogDouble bytes, PetscBool *fits, PetscLogDouble *need,
                              PetscLogDouble *have);

/* Bytes that control groups leave a process, infinite without a limit: groups is its file cgroup, in /proc/self, and mount
   where they are mounted, /sys/fs/cgroup; version 1 and 2. Not collective. */
PetscLogDouble GramMemoryOfGroup(const char *groups, const char *mount);

/**
  GramMemoryCheck - Refuse what does not fit: n points, what ("solve.method direct"), bytes that this rank will take.

  Collective.

  @param[out] peak what will be resident on all ranks together, with what is now, or NULL
  @param[out] line [size], unless NULL: "solve.method direct, peak 3.3 GB, 1.7 GB a rank; 22 GB available", the rank with
                   most, the node where it is tightest

  Errors: GRAM_ERR_RESOURCE with need and capacity.
**/
PetscErrorCode GramMemoryCheck(MPI_Comm comm, PetscInt n, PetscLogDouble bytes, const char *what,
                               PetscLogDouble *peak, char line[], size_t size);

/**
  GramMemoryCheckDevice - Refuse what does not fit the memory of a device: bytes that this rank needs and has there, on
  the device of that name. Nothing is refused where no rank needs any.

  Collective.

  Errors: GRAM_ERR_RESOURCE with need and capacity of the rank that lacks most: "device memory: the product needs 93.1
  GB, a rank has 12 GB of GPU 0".
**/
PetscErrorCode GramMemoryCheckDevice(MPI_Comm comm, PetscLogDouble need, PetscLogDouble have,
                                     const char *device);

/**
  GramMemoryPeak - The most bytes that were resident since the last GramMemoryPeakReset(), summed over the ranks.

  Collective.
**/
PetscErrorCode GramMemoryPeak(MPI_Comm comm, PetscLogDouble *bytes);

/* Gives back to the system what was freed. Allocators keep it for later, and some MPIs tell glibc to keep it all (libpsm2
   does when it is loaded, as Debian's Open MPI loads it). For whoever has freed much and takes much next. Not collective. */
void GramMemoryTrim(void);

/* Starts the peak of this process again from what is resident now; where the system does not let it, the peak stays
   that since the start. Not collective. */
void GramMemoryPeakReset(void);
