#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#if defined(__GLIBC__)
  #include <malloc.h>
#endif

#include "memory.h"

/* one number in a file, or fallback */
static PetscLogDouble NumberIn(const char *path, PetscLogDouble fallback)
{
  FILE  *file = fopen(path, "r");
  double number;

  if (file && fscanf(file, "%lf", &number) == 1) fallback = number;
  if (file) (void)fclose(file);
  return fallback;
}

/* What a batch system or a container leaves to this process (cgroup v2), infinite without one. */
static PetscLogDouble BytesOfGroup(void)
{
  char           line[1024] = "", limit[1280], used[1280];
  FILE          *file       = fopen("/proc/self/cgroup", "r");
  PetscLogDouble most;

  if (file && !fgets(line, sizeof line, file)) line[0] = '\0';
  if (file) (void)fclose(file);
  if (strncmp(line, "0::", 3)) return INFINITY;
  line[strcspn(line, "\n")] = '\0';
  (void)snprintf(limit, sizeof limit, "/sys/fs/cgroup%s/memory.max", line + 3);
  (void)snprintf(used, sizeof used, "/sys/fs/cgroup%s/memory.current", line + 3);
  most = NumberIn(limit, INFINITY);
  return most - (PetscIsInfReal(most) ? 0 : NumberIn(used, 0));
}

/* Bytes this node can still give: the kernel's own estimate, or all of the memory where there is none. */
static PetscLogDouble BytesAvailable(void)
{
  PetscLogDouble bytes = (PetscLogDouble)sysconf(_SC_PHYS_PAGES) * (PetscLogDouble)sysconf(_SC_PAGESIZE);
  char           line[128];
  FILE          *file = fopen("/proc/meminfo", "r");

  while (file && fgets(line, sizeof line, file)) {
    double kib;

    if (sscanf(line, "MemAvailable: %lf kB", &kib) == 1) bytes = 1024 * kib;
  }
  if (file) (void)fclose(file);
  return PetscMin(bytes, BytesOfGroup());
}

PetscErrorCode GramMemoryFits(MPI_Comm comm, PetscLogDouble bytes, PetscBool *fits, PetscLogDouble *need,
                              PetscLogDouble *have)
{
  MPI_Comm       node;
  PetscLogDouble mine[2], worst[2]; /* fraction of a node's memory taken; -(bytes it has) */

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node));
  PetscCallMPI(MPI_Allreduce(&bytes, need, 1, MPI_DOUBLE, MPI_SUM, node));
  PetscCallMPI(MPI_Comm_free(&node));
  *have   = BytesAvailable();
  mine[0] = *need / *have;
  mine[1] = -*have;
  PetscCallMPI(MPI_Allreduce(mine, worst, 2, MPI_DOUBLE, MPI_MAX, comm));
  *have = -worst[1];
  *need = worst[0] * *have;
  *fits = (PetscBool)(worst[0] <= 1);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* bytes of this process in memory now */
static PetscLogDouble BytesResident(void)
{
  FILE  *file = fopen("/proc/self/statm", "r");
  double pages[2];
  int    found = file ? fscanf(file, "%lf %lf", pages, pages + 1) : 0;

  if (file) (void)fclose(file);
  return found == 2 ? pages[1] * (PetscLogDouble)sysconf(_SC_PAGESIZE) : 0;
}

PetscErrorCode GramMemoryCheck(MPI_Comm comm, PetscInt n, PetscLogDouble bytes, const char *what,
                               PetscLogDouble *peak, char line[], size_t size)
{
  PetscLogDouble need, have, mine = bytes + BytesResident(), sum, most;
  PetscBool      fits;

  PetscFunctionBegin;
  PetscCall(GramMemoryFits(comm, bytes, &fits, &need, &have));
  GramCheckResource(fits, comm,
                    "memory: %" PetscInt_FMT " points, %s, need %.3g GB on a node that has %.3g GB available",
                    n, what, need * 1e-9, have * 1e-9);
  PetscCallMPI(MPI_Allreduce(&mine, &sum, 1, MPI_DOUBLE, MPI_SUM, comm));
  PetscCallMPI(MPI_Allreduce(&mine, &most, 1, MPI_DOUBLE, MPI_MAX, comm));
  if (peak) *peak = sum;
  if (line)
    PetscCall(PetscSNPrintf(line, size, "%s, peak %.3g GB, %.3g GB a rank; %.3g GB available", what,
                            sum * 1e-9, most * 1e-9, have * 1e-9));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMemoryCheckDevice(MPI_Comm comm, PetscLogDouble need, PetscLogDouble have,
                                     const char *device)
{
  struct {
    double lacks;
    int    rank;
  } mine, worst;
  PetscLogDouble bytes[2] = {need, have};
  char           name[128];

  PetscFunctionBegin;
  mine.lacks = need - have;
  PetscCallMPI(MPI_Comm_rank(comm, &mine.rank));
  PetscCallMPI(MPI_Allreduce(&mine, &worst, 1, MPI_DOUBLE_INT, MPI_MAXLOC, comm));
  if (worst.lacks <= 0) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscStrncpy(name, device, sizeof name));
  PetscCallMPI(MPI_Bcast(bytes, 2, MPI_DOUBLE, worst.rank, comm));
  PetscCallMPI(MPI_Bcast(name, sizeof name, MPI_CHAR, worst.rank, comm));
  GramCheckResource(PETSC_FALSE, comm, "device memory: the product needs %.3g GB, a rank has %.3g GB of %s",
                    bytes[0] * 1e-9, bytes[1] * 1e-9, name);
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMemoryPeak(MPI_Comm comm, PetscLogDouble *bytes)
{
  struct rusage  usage;
  PetscLogDouble mine = getrusage(RUSAGE_SELF, &usage) ? 0 : 1024.0 * (PetscLogDouble)usage.ru_maxrss;
  char           line[128];
  FILE          *file = fopen("/proc/self/status", "r");

  PetscFunctionBegin;
  while (file &&
         fgets(line, sizeof line, file)) { /* ru_maxrss is also that of the process which started this one */
    double kib;

    if (sscanf(line, "VmHWM: %lf kB", &kib) == 1) mine = 1024 * kib;
  }
  if (file) (void)fclose(file);
  PetscCallMPI(MPI_Allreduce(&mine, bytes, 1, MPI_DOUBLE, MPI_SUM, comm));
  PetscFunctionReturn(PETSC_SUCCESS);
}

void GramMemoryPeakReset(void)
{
  FILE *file;

#if defined(__GLIBC__)
  (void)malloc_trim(0); /* what was freed is no part of the next peak */
#endif
  file = fopen("/proc/self/clear_refs", "w");
  if (file) (void)fputs("5", file); /* proc(5): resets VmHWM */
  if (file) (void)fclose(file);
}
