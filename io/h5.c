#define _GNU_SOURCE /* fallocate, O_TMPFILE */
#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "h5.h"

struct _p_GramH5 {
  MPI_Comm    comm;
  hid_t       file;
  PetscBool   writing;
  PetscBool   failed;  /* a write went wrong on some rank: nothing more is tried */
  int         claimed; /* writing, on the first rank: the temporary file, locked; else -1 */
  int         watched; /* reading, on the first rank: the file as it was checked, */
  struct stat checked; /* and what it was then; else -1 */
  char        key[64], path[PETSC_MAX_PATH_LEN], partial[PETSC_MAX_PATH_LEN + 8];
  char        old[PETSC_MAX_PATH_LEN + 8]; /* what becomes of the file before; "": it goes */
};

/* Every rank learns whether any rank failed. */
static PetscErrorCode AnyRank(MPI_Comm comm, PetscBool mine, PetscBool *any)
{
  PetscFunctionBegin;
  PetscCallMPI(MPI_Allreduce(&mine, any, 1, MPIU_BOOL, MPI_LOR, comm));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode FileNew(MPI_Comm comm, const char *path, const char *key, GramH5 *file)
{
  struct stat st;
  GramH5      f;

  PetscFunctionBegin;
  if (!getenv("GRAM_TRACEBACK"))
    GramCheckInput(H5Eset_auto2(H5E_DEFAULT, NULL, NULL) >= 0, comm, "HDF5 does not start");
  PetscCall(PetscNew(&f));
  f->comm    = comm;
  f->file    = H5I_INVALID_HID;
  f->claimed = -1;
  f->watched = -1;
  PetscCall(PetscStrncpy(f->key, key, sizeof f->key));
  /* a link stays one: what it points to is replaced */
  if (lstat(path, &st) || !S_ISLNK(st.st_mode) || !realpath(path, f->path))
    PetscCall(PetscStrncpy(f->path, path, sizeof f->path));
  PetscCall(PetscSNPrintf(f->partial, sizeof f->partial, "%s.part", f->path));
  *file = f;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The first rank looks at the file alone, so that a bad one is one message and not a parallel failure. */
static void Inspect(const char *path, char problem[], size_t size)
{
  struct stat st;
  hid_t       file;

  problem[0] = '\0';
  if (stat(path, &st)) (void)snprintf(problem, size, "cannot open '%s': %s", path, strerror(errno));
  else if (S_ISDIR(st.st_mode)) (void)snprintf(problem, size, "'%s' is a folder", path);
  else if (access(path, R_OK)) (void)snprintf(problem, size, "cannot read '%s': %s", path, strerror(errno));
  else if (H5Fis_hdf5(path) <= 0) (void)snprintf(problem, size, "'%s' is not an HDF5 file", path);
  else {
    file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0) (void)snprintf(problem, size, "'%s' is a damaged or truncated HDF5 file", path);
    else (void)H5Fclose(file);
  }
}

/* HDF5 reads zeros beyond the end of a file that has become shorter, and does not say so. */
static PetscErrorCode HasChanged(GramH5 f, PetscBool *changed)
{
  struct stat now;

  PetscFunctionBegin;
  *changed = PETSC_FALSE;
  if (f->writing) PetscFunctionReturn(PETSC_SUCCESS);
  if (f->watched >= 0)
    *changed = (PetscBool)(fstat(f->watched, &now) || now.st_size != f->checked.st_size ||
                           now.st_mtim.tv_sec != f->checked.st_mtim.tv_sec ||
                           now.st_mtim.tv_nsec != f->checked.st_mtim.tv_nsec);
  PetscCallMPI(MPI_Bcast(changed, 1, MPIU_BOOL, 0, f->comm));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode CheckUnchanged(GramH5 f)
{
  PetscBool changed;

  PetscFunctionBegin;
  PetscCall(HasChanged(f, &changed));
  GramCheckInput(!changed, f->comm, "%s: '%s' changed while it was read", f->key, f->path);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Each rank reads by itself, without MPI: Open MPI writes files beside one that it opens, and shares a semaphore between
   all files of that name on the machine, whoever's they are. */
PetscErrorCode GramH5OpenRead(MPI_Comm comm, const char *path, const char *key, GramH5 *file)
{
  char        problem[PETSC_MAX_PATH_LEN + 128];
  PetscMPIInt rank;
  PetscBool   failed;

  PetscFunctionBegin;
  GramCheckInput(path[0], comm, "%s: no file given", key);
  PetscCall(FileNew(comm, path, key, file));
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  if (rank == 0) {
    (*file)->watched = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a pipe would wait for a writer */
    if ((*file)->watched >= 0) (void)fstat((*file)->watched, &(*file)->checked);
    Inspect(path, problem, sizeof problem);
  }
  PetscCallMPI(MPI_Bcast(problem, (PetscMPIInt)sizeof problem, MPI_CHAR, 0, comm));
  GramCheckInput(!problem[0], comm, "%s: %s", key, problem);
  (*file)->file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
  PetscCall(AnyRank(comm, (PetscBool)((*file)->file < 0), &failed));
  if (failed) PetscCall(CheckUnchanged(*file));
  GramCheckInput(!failed, comm, "%s: cannot open '%s' on every rank", key, path);
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscBool lost; /* a file that HDF5 still holds open, and must not touch again */
static char      unfinished[PETSC_MAX_PATH_LEN + 8]; /* the temporary name of a file that is being written */

PetscBool GramH5IsLost(void) { return lost; }

PetscErrorCode GramH5GiveUp(MPI_Comm comm)
{
  PetscMPIInt rank;

  PetscFunctionBegin;
  if (!unfinished[0]) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  if (rank == 0) (void)unlink(unfinished);
  lost = PETSC_TRUE;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* What HDF5 adds to the data of a file of ours: tens of kilobytes. */
#define METADATA_BYTES 65536.0

/* An open file gets its blocks before HDF5 writes: 0 or errno. Where the file system cannot do that, the free space
   of this moment has to do. */
static int Reserve(int fd, PetscLogDouble bytes)
{
  struct statvfs fs;

  bytes += METADATA_BYTES;
  if (!fallocate(fd, 0, 0, (off_t)bytes)) return 0;
  if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG || errno == EIO) return errno;
  return !fstatvfs(fd, &fs) && bytes > (PetscLogDouble)fs.f_bavail * (PetscLogDouble)fs.f_frsize ? ENOSPC : 0;
}

/* A file without contents, made in memory and written by hand: HDF5 itself cannot give up what a disk does not take. */
static int WriteEmpty(int fd, const char *name)
{
  const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  char        image[8192];
  ssize_t     size = -1;
  hid_t       file;

  (void)H5Pset_fapl_core(access, sizeof image, 0);
  file = H5Fcreate(name, H5F_ACC_TRUNC, H5P_DEFAULT, access);
  if (file >= 0 && H5Fflush(file, H5F_SCOPE_GLOBAL) >= 0) size = H5Fget_file_image(file, image, sizeof image);
  if (file >= 0) (void)H5Fclose(file);
  (void)H5Pclose(access);
  if (size <= 0) return EIO;
  errno = ENOSPC; /* a short write says nothing */
  return write(fd, image, (size_t)size) == size ? 0 : errno;
}

/* A temporary name for one run alone, for as long as its descriptor is open: two that write to it would wait for each
   other's ranks, or mix their numbers. -1 with errno EWOULDBLOCK where another run has it, which may be one whose mpiexec
   was killed and whose ranks are alive. Where a file system has no locks, as if nobody else were there. */
static int Claim(const char *name, int flags)
{
  for (;;) {
    const int   fd = open(name, O_WRONLY | O_CLOEXEC | flags, 0666);
    struct stat mine, there;

    if (fd < 0) return -1;
    if (flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) {
      (void)close(fd);
      errno = EWOULDBLOCK;
      return -1;
    }
    if (!fstat(fd, &mine) && !stat(name, &there) && mine.st_dev == there.st_dev &&
        mine.st_ino == there.st_ino)
      return fd;
    (void)close(fd); /* it was renamed or removed between open and lock */
  }
}

void GramH5RemovePartial(const char *partial)
{
  const int fd = Claim(partial, 0);

  if (fd < 0) return;
  (void)unlink(partial);
  (void)close(fd);
}

/* On the first rank: what stands in the way of writing bytes to path; else the file is there, empty. */
static void Begin(GramH5 f, PetscLogDouble bytes, char problem[], size_t size)
{
  const int fd = Claim(f->partial, O_CREAT);
  int       error;

  problem[0] = '\0';
  if (fd < 0) {
    (void)snprintf(problem, size, "cannot create '%s': %s", f->partial,
                   errno == EWOULDBLOCK ? "another run is writing it" : strerror(errno));
    return;
  }
  error = ftruncate(fd, 0) ? errno : WriteEmpty(fd, f->partial);
  if (!error) error = Reserve(fd, bytes);
  if (error) {
    (void)snprintf(problem, size, "cannot write the %.3g MB of '%s': %s", (bytes + METADATA_BYTES) * 1e-6,
                   f->path, strerror(error));
    (void)unlink(f->partial);
    (void)close(fd);
    return;
  }
  f->claimed = fd;
}

PetscErrorCode GramH5CheckSpace(MPI_Comm comm, const char *path, const char *key, PetscLogDouble bytes)
{
  PetscMPIInt rank;
  char        folder[PETSC_MAX_PATH_LEN];
  GramH5      f;
  int         fd, error = 0;

  PetscFunctionBegin;
  PetscCall(FileNew(comm, path, key, &f));
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  if (rank == 0) {
    GramH5RemovePartial(f->partial); /* of a run that was killed */
    PetscCall(PetscStrncpy(folder, f->path, sizeof folder));
    fd = open(dirname(folder), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666); /* no name: nothing to leave behind */
    if (fd >= 0) {
      error = Reserve(fd, bytes);
      (void)close(fd);
    }
  }
  PetscCallMPI(MPI_Bcast(&error, 1, MPI_INT, 0, comm));
  PetscCall(PetscFree(f));
  GramCheckResource(!error, comm, "%s: cannot write the %.3g MB of '%s': %s", key,
                    (bytes + METADATA_BYTES) * 1e-6, path, strerror(error));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramH5Create(MPI_Comm comm, const char *path, const char *key, PetscLogDouble bytes,
                            GramH5 *file)
{
  char        problem[2 * PETSC_MAX_PATH_LEN];
  PetscMPIInt rank;
  PetscBool   failed;
  hid_t       access;

  PetscFunctionBegin;
  PetscCall(FileNew(comm, path, key, file));
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  if (rank == 0) Begin(*file, bytes, problem, sizeof problem);
  PetscCallMPI(MPI_Bcast(problem, (PetscMPIInt)sizeof problem, MPI_CHAR, 0, comm));
  if (problem[0]) PetscCall(PetscFree(*file));
  GramCheckResource(!problem[0], comm, "%s: %s", key, problem);
  (*file)->writing = PETSC_TRUE;
  PetscCall(PetscStrncpy(unfinished, (*file)->partial, sizeof unfinished));
  access = H5Pcreate(H5P_FILE_ACCESS);
  (void)H5Pset_fapl_mpio(access, comm, MPI_INFO_NULL);
  (*file)->file = H5Fopen((*file)->partial, H5F_ACC_RDWR, access);
  (void)H5Pclose(access);
  PetscCall(AnyRank(comm, (PetscBool)((*file)->file < 0), &failed));
  if (failed) {
    PetscCall(PetscSNPrintf(problem, sizeof problem, "cannot write '%s' from every rank", (*file)->partial));
    if ((*file)->file >= 0) (void)H5Fclose((*file)->file);
    if (rank == 0) {
      (void)unlink((*file)->partial);
      (void)close((*file)->claimed);
    }
    unfinished[0] = '\0';
    PetscCall(PetscFree(*file));
  }
  GramCheckResource(!failed, comm, "%s: %s", key, problem);
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramH5KeepOld(GramH5 f, const char *old)
{
  PetscFunctionBegin;
  PetscCall(PetscStrncpy(f->old, old, sizeof f->old));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Data on the disk first, then the name, then the folder that holds the name. */
static int Publish(const char *partial, const char *path, const char *old)
{
  char folder[PETSC_MAX_PATH_LEN];
  int  fd = open(partial, O_RDONLY), error = 0;

  if (fd < 0 || fsync(fd)) error = errno;
  if (fd >= 0) (void)close(fd);
  if (!error && old[0] && rename(path, old) && errno != ENOENT) error = errno;
  if (!error && rename(partial, path)) error = errno;
  if (error) return error;
  (void)snprintf(folder, sizeof folder, "%s", path);
  fd = open(dirname(folder), O_RDONLY);
  if (fd >= 0) {
    (void)fsync(fd); /* some file systems refuse; the file itself is safe */
    (void)close(fd);
  }
  return 0;
}

/* Flushed and closed on every rank, or given up. */
static PetscErrorCode Finish(GramH5 f)
{
  PetscBool failed = f->failed;

  PetscFunctionBegin;
  if (f->writing && !f->failed)
    PetscCall(AnyRank(f->comm, (PetscBool)(H5Fflush(f->file, H5F_SCOPE_GLOBAL) < 0), &failed));
  if (!failed) PetscCall(AnyRank(f->comm, (PetscBool)(H5Fclose(f->file) < 0), &failed));
  f->failed = failed;
  if (failed) lost = PETSC_TRUE;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramH5Close(GramH5 *file)
{
  GramH5      f    = *file;
  MPI_Comm    comm = f->comm;
  PetscMPIInt rank;
  PetscBool   failed, changed;
  int         error = 0;
  char        path[PETSC_MAX_PATH_LEN], key[64];

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  PetscCall(HasChanged(f, &changed));
  if (f->watched >= 0) (void)close(f->watched);
  PetscCall(Finish(f));
  if (f->writing) unfinished[0] = '\0';
  if (f->writing && rank == 0) {
    if (!f->failed) error = Publish(f->partial, f->path, f->old);
    if (f->failed || error) (void)unlink(f->partial);
    (void)close(f->claimed);
  }
  PetscCallMPI(MPI_Bcast(&error, 1, MPI_INT, 0, comm));
  PetscCall(PetscStrncpy(path, f->path, sizeof path));
  PetscCall(PetscStrncpy(key, f->key, sizeof key));
  failed = (PetscBool)(f->failed && f->writing);
  PetscCall(PetscFree(*file));
  GramCheckInput(!changed, comm, "%s: '%s' changed while it was read", key, path);
  GramCheckResource(!failed, comm, "%s: writing '%s' failed (disk full?); nothing was left there", key, path);
  GramCheckResource(!error, comm, "%s: writing '%s' failed: %s", key, path, strerror(error));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Of one name: is it there? */
static PetscBool Look(hid_t file, const char *name)
{
  char  part[256];
  char *at, *relative = part;

  (void)snprintf(part, sizeof part, "%s", name);
  at = strchr(part, '@');
  if (at) *at = '\0';
  while (*relative == '/') relative++; /* /x is x */
  for (char *slash = strchr(relative, '/'); part[0];
       slash       = strchr(slash + 1, '/')) { /* each group in turn */
    if (slash) *slash = '\0';
    if (H5Lexists(file, part, H5P_DEFAULT) <= 0) return PETSC_FALSE;
    if (!slash) break;
    *slash = '/';
  }
  return (PetscBool)(!at || H5Aexists_by_name(file, part[0] ? part : "/", at + 1, H5P_DEFAULT) > 0);
}

/* What a file says of itself is read by the first rank alone: while a file changes, ranks would not see the same. */
PetscErrorCode GramH5Exists(GramH5 f, const char *name, PetscBool *exists)
{
  PetscFunctionBegin;
  *exists = Look(f->file, name);
  PetscCallMPI(MPI_Bcast(exists, 1, MPIU_BOOL, 0, f->comm));
  if (!*exists) PetscCall(CheckUnchanged(f)); /* that is the better message */
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Of a dataset, or found is 0 */
typedef struct {
  int found, ndims;
  H5T_class_t class;
  hsize_t dims[2];
} Shape;

static void Measure(hid_t file, const char *name, Shape *s)
{
  const hid_t set = H5Dopen2(file, name, H5P_DEFAULT), type = set < 0 ? -1 : H5Dget_type(set),
              space = set < 0 ? -1 : H5Dget_space(set);

  *s = (Shape){.found = type >= 0 && space >= 0, .ndims = -1, .class = H5T_NO_CLASS, .dims = {0, 1}};
  if (s->found) {
    s->class = H5Tget_class(type);
    s->ndims = H5Sget_simple_extent_ndims(space);
    if (s->ndims == 1 || s->ndims == 2) (void)H5Sget_simple_extent_dims(space, s->dims, NULL);
  }
  if (type >= 0) (void)H5Tclose(type);
  if (space >= 0) (void)H5Sclose(space);
  if (set >= 0) (void)H5Dclose(set);
}

PetscErrorCode GramH5GetShape(GramH5 f, const char *name, const char *key, PetscBool integer, PetscInt *ndims,
                              PetscInt *rows, PetscInt *cols)
{
  PetscBool   exists;
  PetscMPIInt rank;
  Shape       s;

  PetscFunctionBegin;
  GramCheckInput(name[0], f->comm, "%s: no dataset named", key);
  PetscCall(GramH5Exists(f, name, &exists));
  GramCheckInput(exists, f->comm, "%s: '%s' has no dataset '%s'", key, f->path, name);
  PetscCallMPI(MPI_Comm_rank(f->comm, &rank));
  if (rank == 0) Measure(f->file, name, &s);
  PetscCallMPI(MPI_Bcast(&s, (PetscMPIInt)sizeof s, MPI_BYTE, 0, f->comm));
  if (!s.found) PetscCall(CheckUnchanged(f));
  GramCheckInput(s.found, f->comm, "%s: '%s' in '%s' is not a dataset", key, name, f->path);
  GramCheckInput(s.class == H5T_INTEGER || (s.class == H5T_FLOAT && !integer), f->comm,
                 "%s: dataset '%s' in '%s' does not hold %s", key, name, f->path,
                 integer ? "whole numbers" : "numbers");
  GramCheckInput(s.ndims == 1 || s.ndims == 2, f->comm,
                 "%s: dataset '%s' in '%s' has %d dimensions, not 1 or 2", key, name, f->path, s.ndims);
  GramCheckInput(s.dims[0] <= PETSC_MAX_INT && s.dims[1] <= PETSC_MAX_INT, f->comm,
                 "%s: dataset '%s' in '%s' has more rows than this PETSc can count (64-bit indices needed)",
                 key, name, f->path);
  *ndims = s.ndims;
  *rows  = (PetscInt)s.dims[0];
  *cols  = (PetscInt)s.dims[1];
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* A transfer of rows between memory and file; selections of no rows are legal and needed. Each rank reads its rows
   by itself: one that cannot would leave the others waiting. */
static herr_t Transfer(hid_t set, PetscBool writing, PetscInt ndims, hsize_t first, hsize_t n, hsize_t a,
                       hsize_t b, PetscReal *x)
{
  const hsize_t start[3] = {first, 0, 0}, count[3] = {n, a, b};
  hid_t         file = H5Dget_space(set), memory, transfer = H5Pcreate(H5P_DATASET_XFER);
  herr_t        error;
  PetscReal     nothing = 0;

  memory = H5Screate_simple((int)ndims, count, NULL);
  if (writing) (void)H5Pset_dxpl_mpio(transfer, H5FD_MPIO_COLLECTIVE);
  if (n * a * b > 0) (void)H5Sselect_hyperslab(file, H5S_SELECT_SET, start, NULL, count, NULL);
  else {
    (void)H5Sselect_none(file);
    (void)H5Sselect_none(memory);
  }
  if (writing) error = H5Dwrite(set, H5T_NATIVE_DOUBLE, memory, file, transfer, x ? x : &nothing);
  else error = H5Dread(set, H5T_NATIVE_DOUBLE, memory, file, transfer, x ? x : &nothing);
  (void)H5Sclose(memory);
  (void)H5Sclose(file);
  (void)H5Pclose(transfer);
  return error;
}

PetscErrorCode GramH5ReadRows(GramH5 f, const char *name, const char *key, PetscInt first, PetscInt n,
                              PetscReal *x)
{
  PetscInt  ndims, rows, cols;
  PetscBool failed;
  hid_t     set;
  herr_t    error = -1;

  PetscFunctionBegin;
  PetscCall(GramH5GetShape(f, name, key, PETSC_FALSE, &ndims, &rows, &cols));
  set = H5Dopen2(f->file, name, H5P_DEFAULT);
  if (set >= 0) error = Transfer(set, PETSC_FALSE, ndims, (hsize_t)first, (hsize_t)n, (hsize_t)cols, 1, x);
  if (set >= 0) (void)H5Dclose(set);
  PetscCall(AnyRank(f->comm, (PetscBool)(error < 0), &failed));
  PetscCall(CheckUnchanged(f));
  GramCheckInput(!failed, f->comm, "%s: cannot read dataset '%s' of '%s' (damaged file?)", key, name,
                 f->path);
  PetscFunctionReturn(PETSC_SUCCESS);
}

static hid_t OpenAttribute(GramH5 f, const char *group, const char *name)
{
  return H5Aopen_by_name(f->file, group[0] ? group : "/", name, H5P_DEFAULT, H5P_DEFAULT);
}

/* how many numbers were read into x [n], -1: none */
static int Numbers(hid_t attribute, PetscInt n, PetscReal *x)
{
  const hid_t    space = attribute < 0 ? -1 : H5Aget_space(attribute);
  const hssize_t count = space < 0 ? -1 : H5Sget_simple_extent_npoints(space);

  if (space >= 0) (void)H5Sclose(space);
  return count >= 0 && count <= n && H5Aread(attribute, H5T_NATIVE_DOUBLE, x) >= 0 ? (int)count : -1;
}

PetscErrorCode GramH5ReadAttribute(GramH5 f, const char *group, const char *name, PetscInt *n, PetscReal *x)
{
  hid_t       attribute;
  PetscMPIInt rank;
  int         count = -1;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(f->comm, &rank));
  if (rank == 0) {
    attribute = OpenAttribute(f, group, name);
    count     = Numbers(attribute, *n, x);
    if (attribute >= 0) (void)H5Aclose(attribute);
  }
  PetscCallMPI(MPI_Bcast(&count, 1, MPI_INT, 0, f->comm));
  if (count < 0) PetscCall(CheckUnchanged(f));
  GramCheckInput(count >= 0, f->comm,
                 "%s: '%s' has no attribute '%s' of 1 ... %" PetscInt_FMT " numbers in group '%s'", f->key,
                 f->path, name, *n, group);
  PetscCallMPI(MPI_Bcast(x, count, MPIU_REAL, 0, f->comm));
  *n = count;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Text(hid_t attribute, char text[], size_t size, herr_t *error)
{
  const hid_t type     = H5Aget_type(attribute);
  char       *variable = NULL;

  PetscFunctionBegin;
  if (H5Tis_variable_str(type) > 0) {
    *error = H5Aread(attribute, type, (void *)&variable);
    if (*error >= 0 && variable) PetscCall(PetscStrncpy(text, variable, size));
    if (variable) (void)H5free_memory(variable);
  } else if (H5Tget_class(type) == H5T_STRING && H5Tget_size(type) < size) {
    *error = H5Aread(attribute, type, text);
    if (*error >= 0) text[H5Tget_size(type)] = '\0';
  }
  (void)H5Tclose(type);
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramH5ReadString(GramH5 f, const char *group, const char *name, char text[], size_t size)
{
  hid_t       attribute;
  PetscMPIInt rank;
  herr_t      error = -1;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(f->comm, &rank));
  text[0] = '\0';
  if (rank == 0) {
    attribute = OpenAttribute(f, group, name);
    if (attribute >= 0) PetscCall(Text(attribute, text, size, &error));
    if (attribute >= 0) (void)H5Aclose(attribute);
  }
  PetscCallMPI(MPI_Bcast(&error, 1, MPI_INT, 0, f->comm));
  if (error < 0) PetscCall(CheckUnchanged(f));
  GramCheckInput(error >= 0, f->comm, "%s: '%s' has no text attribute '%s' in group '%s'", f->key, f->path,
                 name, group);
  PetscCallMPI(MPI_Bcast(text, (PetscMPIInt)size, MPI_CHAR, 0, f->comm));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static hid_t Create(GramH5 f, const char *name, PetscInt ndims, PetscInt rows, PetscInt a, PetscInt b)
{
  const hsize_t dims[3] = {(hsize_t)rows, (hsize_t)a, (hsize_t)b};
  hid_t         links   = H5Pcreate(H5P_LINK_CREATE), space, set;

  (void)H5Pset_create_intermediate_group(links, 1);
  space = ndims ? H5Screate_simple((int)ndims, dims, NULL) : H5Screate(H5S_SCALAR);
  set   = H5Dcreate2(f->file, name, H5T_IEEE_F64LE, space, links, H5P_DEFAULT, H5P_DEFAULT);
  (void)H5Sclose(space);
  (void)H5Pclose(links);
  return set;
}

PetscErrorCode GramH5WriteRows(GramH5 f, const char *name, PetscInt ndims, PetscInt n, PetscInt cols,
                               const PetscReal *x)
{
  PetscInt    rows, first = 0;
  PetscMPIInt rank;
  hid_t       set;
  herr_t      error = 0;

  PetscFunctionBegin;
  if (f->failed) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCallMPI(MPI_Comm_rank(f->comm, &rank));
  if (ndims == 0) n = rank == 0;
  PetscCallMPI(MPI_Allreduce(&n, &rows, 1, MPIU_INT, MPI_SUM, f->comm));
  PetscCallMPI(MPI_Exscan(&n, &first, 1, MPIU_INT, MPI_SUM, f->comm));
  if (rank == 0) first = 0;
  set = Create(f, name, ndims, rows, cols, 1);
  if (set < 0) error = -1;
  else if (!ndims && rank == 0) error = H5Dwrite(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, x);
  else if (ndims && rows > 0) { /* HDF5 1.10 fails to write nothing at all */
    error = Transfer(set, PETSC_TRUE, ndims, (hsize_t)first, (hsize_t)n, (hsize_t)cols, 1, (PetscReal *)x);
  }
  if (set >= 0 && H5Dclose(set) < 0) error = -1;
  PetscCall(AnyRank(f->comm, (PetscBool)(error < 0), &f->failed));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramH5CreateRows(GramH5 f, const char *name, PetscInt ndims, PetscInt rows, PetscInt a,
                                PetscInt b)
{
  hid_t set;

  PetscFunctionBegin;
  if (f->failed) PetscFunctionReturn(PETSC_SUCCESS);
  set = Create(f, name, ndims, rows, a, b);
  PetscCall(AnyRank(f->comm, (PetscBool)(set < 0 || H5Dclose(set) < 0), &f->failed));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramH5WriteAt(GramH5 f, const char *name, PetscInt first, PetscInt n, const PetscReal *x)
{
  hsize_t dims[3] = {0, 1, 1};
  int     ndims;
  hid_t   set, space;
  herr_t  error = -1;

  PetscFunctionBegin;
  if (f->failed) PetscFunctionReturn(PETSC_SUCCESS);
  set = H5Dopen2(f->file, name, H5P_DEFAULT);
  if (set >= 0) {
    space = H5Dget_space(set);
    ndims = H5Sget_simple_extent_dims(space, dims, NULL);
    (void)H5Sclose(space);
    error = Transfer(set, PETSC_TRUE, ndims, (hsize_t)first, (hsize_t)n, dims[1], dims[2], (PetscReal *)x);
    if (H5Dclose(set) < 0) error = -1;
  }
  PetscCall(AnyRank(f->comm, (PetscBool)(error < 0), &f->failed));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* One attribute: create the group when it is missing, then the attribute. */
static PetscErrorCode WriteAttribute(GramH5 f, const char *group, const char *name, hid_t type, hid_t memory,
                                     hid_t space, const void *value)
{
  hid_t  parent, attribute;
  herr_t error = -1;

  PetscFunctionBegin;
  if (f->failed) {
    (void)H5Sclose(space);
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  if (!group[0]) parent = H5Gopen2(f->file, "/", H5P_DEFAULT);
  else if (H5Lexists(f->file, group, H5P_DEFAULT) > 0) parent = H5Gopen2(f->file, group, H5P_DEFAULT);
  else parent = H5Gcreate2(f->file, group, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  attribute = H5Acreate2(parent, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
  if (attribute >= 0) error = H5Awrite(attribute, memory, value);
  if (attribute >= 0 && H5Aclose(attribute) < 0) error = -1;
  if (parent >= 0) (void)H5Gclose(parent);
  (void)H5Sclose(space);
  PetscCall(AnyRank(f->comm, (PetscBool)(error < 0), &f->failed));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramH5WriteReals(GramH5 f, const char *group, const char *name, PetscInt n, const PetscReal *x)
{
  const hsize_t count = (hsize_t)n;

  PetscFunctionBegin;
  PetscCall(WriteAttribute(f, group, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE,
                           n ? H5Screate_simple(1, &count, NULL) : H5Screate(H5S_SCALAR), x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramH5WriteInt(GramH5 f, const char *group, const char *name, PetscInt64 value)
{
  const int64_t number = value;

  PetscFunctionBegin;
  PetscCall(WriteAttribute(f, group, name, H5T_STD_I64LE, H5T_NATIVE_INT64, H5Screate(H5S_SCALAR), &number));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramH5WriteString(GramH5 f, const char *group, const char *name, const char *text)
{
  hid_t type = H5Tcopy(H5T_C_S1);

  PetscFunctionBegin;
  (void)H5Tset_size(type, H5T_VARIABLE); /* h5py reads these as str */
  (void)H5Tset_cset(type, H5T_CSET_UTF8);
  PetscCall(WriteAttribute(f, group, name, type, type, H5Screate(H5S_SCALAR), (const void *)&text));
  (void)H5Tclose(type);
  PetscFunctionReturn(PETSC_SUCCESS);
}
