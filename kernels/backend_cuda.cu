/*
  Tiles on a GPU: plans which items compute a list of tiles, and in which order their sums are added.

  Tiles are collected, planned, launched and added up, all in one stream, while the host collects the next. A plan sorts
  them into batches by how they are computed:

      tier    direct or factored, see Factorable(); tiles whose entries are all zero in the precision at hand are left out
      mode    y_I += B v_J alone; both ways from the same entries; or the transpose alone, u_J += B' w_I, where a tile is
              used both ways and its tier has no device function for that

  Tiles that follow each other in the same rows share items, or are cut into pieces of columns, so that there is work
  for every multiprocessor whatever the size of the problem. It depends on the points, on the lists and on the device:
  same calls, same bits.
*/
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <unordered_map>
#include <vector>

#include <petscsys.h>

#include "backend_impl.h"
#include "coulomb_cuda.h"
#include "progress.h"
#include "tile_cuda.h"

#if defined(OPEN_MPI) && !defined(GRAM_CUDA_HOST)
  #include <mpi-ext.h>
#endif

#define GRANULE 16               /* points that share a box */
#define PENDING 65536            /* tiles that are collected, at most */
#define WIDEST  ((PetscInt)8192) /* columns of one: wider ones are several */
#define RING    4                /* plans on their way to the device, at most */
#define ITEMS   6                /* per multiprocessor: with fewer, tiles are cut */
#define PLENTY  64               /* with more than these, tiles in the same rows share one */
#define LONGEST 16               /* such tiles an item takes, at most */

/* squared distances, in the profile's unit, from which the polynomial of a profile overflows in float */
#define FAR_SINGLE 0x1p60

#define GramCallCUDA(call)                                                                       \
  do {                                                                                           \
    const cudaError_t gram_cuda_error = (call);                                                  \
    PetscCheck(gram_cuda_error == cudaSuccess, PETSC_COMM_SELF,                                  \
               gram_cuda_error == cudaErrorMemoryAllocation ? GRAM_ERR_RESOURCE : PETSC_ERR_GPU, \
               "CUDA: %s (%s)", cudaGetErrorString(gram_cuda_error), #call);                     \
  } while (0)

static_assert(GRAM_CUDA_DIM >= GRAM_MAX_DIM, "device functions have room for every point");

namespace
{

struct Device {
  int            index, sharers; /* ranks of this node that use it */
  int            processors;
  PetscLogDouble bytes;
  bool           mpi_reaches;     /* MPI takes pointers to its memory */
  cudaStream_t   stream, uploads; /* of products, and of plans that are ahead of it */
  GramBackend    cpu;             /* for entries */
  char           detail[160];
};

/* Memory that grows and forgets. */
template <typename T> struct Room {
  T     *p;
  size_t n;
};

template <typename T> PetscErrorCode RoomReserve(Room<T> *room, size_t n)
{
  PetscFunctionBegin;
  if (n <= room->n) PetscFunctionReturn(PETSC_SUCCESS);
  GramCallCUDA(cudaFree(room->p)); /* waits for what still uses it */
  *room = {NULL, 0};
  GramCallCUDA(cudaMalloc((void **)&room->p, n * sizeof(T)));
  room->n = n;
  PetscFunctionReturn(PETSC_SUCCESS);
}

template <typename T> PetscErrorCode RoomFree(Room<T> *room)
{
  PetscFunctionBegin;
  GramCallCUDA(cudaFree(room->p));
  *room = {NULL, 0};
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* A plan on its way to the device. */
struct Upload {
  char       *host, *device; /* [room]; host is pinned */
  size_t      room;
  cudaEvent_t there, done; /* it is, and all that reads it is */
  bool        busy;
  PetscReal   pairs; /* evaluated by then */
};

/* Ranges of points that partial sums are for, and where those are, in the order of their tiles. */
struct Targets {
  std::vector<GramFoldKey> keys;
  std::vector<long long>   sums;
  std::vector<int>         key_of; /* [sums] */
  std::vector<int>         at;     /* [points] the key that begins there, or -1 */
};

/* Tiles that are computed alike. An item is open while tiles in the same rows come: its pieces are there, the items of
   its strips not yet. */
struct Batch {
  GramTileKernel         kernel;
  std::vector<GramItem>  items;
  std::vector<GramPiece> pieces;
  std::vector<double>    centres; /* [.][dim] */
  std::vector<GramPack>  packs;
  std::vector<int>       pack_at; /* [columns] as Targets::at */
  int                    packed;  /* sixteens of columns */
  Targets                rows, cols;
  size_t                 used;               /* partial sums, in numbers */
  int                    row, n_rows, first; /* of the open item: rows and first piece */
  PetscReal              pairs;
};

enum { ONCE, BOTH, TRANSPOSED, MODES };

/* Points of one side. */
struct Side {
  PetscInt                                          n;
  double                                           *host;     /* [dim][n] in the profile's unit */
  Room<double>                                      x;        /* there */
  std::vector<double>                               granules; /* [n / GRANULE][2 dim] corners of boxes */
  std::unordered_map<uint64_t, std::vector<double>> boxes;    /* of ranges asked for before */
  /* [n] of those the last that begins there: its points, itself */
  std::vector<std::pair<PetscInt, const double *>> box_at;
};

struct TilesCUDA {
  bool      narrow; /* entries in float */
  GramTiles entries;
  Side      rows, cols; /* cols unused when square */
  /* panels; those of the caller where they are on the device, and shared as the caller shares */
  Room<double>          v, w, y, u;
  const double         *v_now, *w_now;
  double               *u_now;
  double               *bounce; /* [n_bounce] pinned: sums on their way back */
  size_t                n_bounce;
  PetscInt              y_from, y_to, u_from, u_to; /* points that sums were added to */
  Room<double>          sums;
  Room<double>          largest; /* [2][q] of |v|, of |w| */
  Room<uint4>           panel;
  Room<float>           panel_scale;
  Upload                ring[RING];
  int                   turn;
  bool                  began, timed; /* a list was added since begin; a batch was launched */
  cudaEvent_t           first, last;  /* before the first launch of a product, behind its last */
  Batch                 batches[2][MODES];
  std::vector<GramTile> pending, turned; /* tiles; transposed ones, rows and columns exchanged */
};

Device    *DeviceOf(GramTiles t) { return (Device *)t->backend->data; }
TilesCUDA *CudaOf(GramTiles t) { return (TilesCUDA *)t->data; }
Side      *ColumnsOf(GramTiles t) { return t->square ? &CudaOf(t)->rows : &CudaOf(t)->cols; }

/* what a mode takes for rows and for columns */
Side *RowsIn(GramTiles t, int mode) { return mode == TRANSPOSED ? ColumnsOf(t) : &CudaOf(t)->rows; }
Side *ColsIn(GramTiles t, int mode) { return mode == TRANSPOSED ? &CudaOf(t)->rows : ColumnsOf(t); }

/* Entries in float? Their coordinates are about the centre of rows that stand together: not where rows must not depend
   on each other. */
bool Narrow(GramTiles t) { return CudaOf(t)->narrow && !t->rowwise; }

bool Derivatives(GramTiles t) { return t->rows != GRAM_VALUE || t->cols != GRAM_VALUE; }

/* numbers that a point carries in device functions */
PetscInt Numbers(GramTiles t) { return Derivatives(t) ? 1 + t->kernel.dim : 1; }

/* ---- boxes and tiers */

PetscErrorCode SideCreate(Side *side, PetscInt dim, PetscInt n, const PetscReal *x, PetscReal unit)
{
  PetscFunctionBegin;
  side->n = n;
  side->box_at.assign((size_t)n + 1, {-1, NULL});
  PetscCall(PetscMalloc1(GramAt(n, dim, 0), &side->host));
  side->granules.resize((size_t)((n + GRANULE - 1) / GRANULE) * 2 * dim);
  for (PetscInt i = 0; i < n; i++) {
    double *box = &side->granules[(size_t)(i / GRANULE) * 2 * dim];

    for (PetscInt c = 0; c < dim; c++) {
      const double xc = unit * x[GramAt(i, dim, c)];

      side->host[GramAt(c, n, i)] = xc;
      box[c]                      = i % GRANULE ? std::min(box[c], xc) : xc;
      box[dim + c]                = i % GRANULE ? std::max(box[dim + c], xc) : xc;
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode SideUpload(Side *side, PetscInt dim, cudaStream_t stream)
{
  PetscFunctionBegin;
  if (side->x.p) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(RoomReserve(&side->x, GramAt(side->n, dim, 1)));
  GramCallCUDA(cudaMemcpyAsync(side->x.p, side->host, GramAt(side->n, dim, 0) * sizeof(double),
                               cudaMemcpyHostToDevice, stream));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode SideDestroy(Side *side)
{
  PetscFunctionBegin;
  PetscCall(PetscFree(side->host));
  PetscCall(RoomFree(&side->x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* box [2 dim] grows to hold another, or becomes it */
void BoxJoin(PetscInt dim, double *box, const double *other, bool first)
{
  for (PetscInt c = 0; c < dim; c++) {
    box[c]       = first ? other[c] : std::min(box[c], other[c]);
    box[dim + c] = first ? other[dim + c] : std::max(box[dim + c], other[dim + c]);
  }
}

/* [2 dim] corners of the box of points first ... first + n, from those of granules and from points at its ends. It stays
   where it is. */
const double *BoxOf(Side *side, PetscInt dim, PetscInt first, PetscInt n)
{
  if (side->box_at[first].first == n) return side->box_at[first].second;

  std::vector<double> &box   = side->boxes[(uint64_t)first << 32 | (uint32_t)n];
  const bool           known = !box.empty();
  double               point[2 * GRAM_MAX_DIM];

  box.resize(2 * (size_t)dim);
  side->box_at[first] = {n, box.data()};
  if (known) return box.data();
  for (PetscInt i = first; i < first + n;) {
    const bool whole = i % GRANULE == 0 && i + GRANULE <= first + n;

    for (PetscInt c = 0; c < dim && !whole; c++)
      point[c] = point[dim + c] = side->host[GramAt(c, side->n, i)];
    BoxJoin(dim, box.data(), whole ? &side->granules[(size_t)(i / GRANULE) * 2 * (size_t)dim] : point,
            i == first);
    i += whole ? GRANULE : 1;
  }
  return box.data();
}

/* squared: least and largest distance between points of two boxes */
double LeastSquare(PetscInt dim, const double *a, const double *b)
{
  double sum = 0;

  for (PetscInt c = 0; c < dim; c++) {
    const double gap = std::max(0.0, std::max(b[c] - a[dim + c], a[c] - b[dim + c]));

    sum += gap * gap;
  }
  return sum;
}

double MostSquare(PetscInt dim, const double *a, const double *b)
{
  double sum = 0;

  for (PetscInt c = 0; c < dim; c++) {
    const double span = std::max(b[dim + c] - a[c], a[dim + c] - b[c]);

    sum += span * span;
  }
  return sum;
}

/* of half the diagonal */
double HalfSquare(PetscInt dim, const double *a) { return MostSquare(dim, a, a) / 4; }

/*
  Does every entry at squared distances of s and more vanish in the precision at hand? A matern kernel is at most
  (1 + t)^p 2^-u, t <= u = sqrt(s), p its degree; a Gaussian is 2^-s.
*/
bool Vanishes(GramRadial type, bool narrow, double s)
{
  const int    twonu = GramRadialGetInfo(type)->twonu;
  const double limit = narrow ? 127 : 1000, support = GramRadialGetInfo(type)->support;

  if (support > 0) return s > support * support * (1 + 1e-12); /* distances are rounded */
  if ((!twonu && type != GRAM_RADIAL_GAUSSIAN) || s <= (twonu ? limit * limit : limit)) return false;
  return !twonu || std::sqrt(s) - (twonu - 1) / 2 * std::log2(1 + std::sqrt(s)) > limit;
}

/*
  May a Gaussian tile be factored? With the strip's half diagonal h, all of its columns within Y of its centre and distances
  between d and D, in units where phi = 2^-r^2:

      h <= 2.5, Y^2 <= 120   the inner exponent is within 2 h Y <= 55 and the factor of a column at least 2^-120, both in the
                             range of float. The error of an entry, relative to it, is about eps (2 h Y + Y^2) ln 2: 4 eps
                             near by, 1e-5 in float at the far end, where entries are 1e-20 and less.
      panels: h <= 1, and    P has all of its digits down to 2^-14 of the largest of the tile, 2^-d^2. Where a row may have no
      D^2 - d^2 <= 16        larger entries elsewhere, smaller ones matter to it. Rows that are columns have: their own, 1.
*/
bool Factorable(bool panel, bool alone, double half_square, double most_square, double spread)
{
  return half_square <= (panel ? 1 : 6.25) && most_square <= 120 && (!panel || !alone || spread <= 16);
}

/* for all strips of the rows: first by the box of all rows, which holds theirs */
bool TileFactorable(GramTiles t, const GramTileKernel *kernel, Side *rows, PetscInt row, PetscInt n_rows,
                    Side *cols, PetscInt col, PetscInt n_cols)
{
  const PetscInt dim   = t->kernel.dim;
  const bool     panel = kernel->pack, alone = !t->square;

  if (!kernel->launch) return false;

  const double *box = BoxOf(rows, dim, row, n_rows), *other = BoxOf(cols, dim, col, n_cols);
  const double  most = MostSquare(dim, box, other), spread = most - LeastSquare(dim, box, other);

  if (Factorable(panel, alone, HalfSquare(dim, box), most, spread)) return true;
  for (PetscInt i = 0; i < n_rows; i += kernel->strip) {
    double centre[2 * 3]; /* a box without extent */

    box = BoxOf(rows, dim, row + i, std::min((PetscInt)kernel->strip, n_rows - i));
    for (PetscInt c = 0; c < dim; c++) centre[c] = centre[dim + c] = (box[c] + box[dim + c]) / 2;
    if (!Factorable(panel, alone, HalfSquare(dim, box), MostSquare(dim, centre, other),
                    MostSquare(dim, box, other) - LeastSquare(dim, box, other)))
      return false;
  }
  return true;
}

/* ---- plans */

void TargetsClear(Targets *targets)
{
  for (const GramFoldKey &key : targets->keys) targets->at[key.first] = -1;
  targets->keys.clear();
  targets->sums.clear();
  targets->key_of.clear();
}

/* points first ... first + n get count sums, stride apart */
void TargetsAdd(Targets *targets, PetscInt n_points, PetscInt first, PetscInt n, size_t sum, size_t stride,
                PetscInt count)
{
  if (targets->at.empty()) targets->at.assign(n_points, -1);
  int key = targets->at[first];

  if (key < 0 || targets->keys[key].n != n) {
    key = targets->at[first] = (int)targets->keys.size();
    targets->keys.push_back({(int)first, (int)n, 0, 0});
  }
  for (PetscInt c = 0; c < count; c++) {
    targets->sums.push_back((long long)(sum + (size_t)c * stride));
    targets->key_of.push_back(key);
  }
}

/* sums key by key, those of each in the order they came; do ranges overlap? */
bool TargetsSort(Targets *targets, std::vector<long long> *sorted)
{
  std::vector<int> order(targets->keys.size());
  int              at      = 0;
  bool             overlap = false;

  for (int key : targets->key_of) targets->keys[key].end++;
  for (GramFoldKey &key : targets->keys) {
    const int n = key.end;

    key.begin = key.end = at;
    at += n;
  }
  sorted->resize(targets->sums.size());
  for (size_t i = 0; i < targets->sums.size(); i++)
    (*sorted)[targets->keys[targets->key_of[i]].end++] = targets->sums[i];
  for (size_t k = 0; k < order.size(); k++) order[k] = (int)k;
  std::sort(order.begin(), order.end(),
            [&](int a, int b) { return targets->keys[a].first < targets->keys[b].first; });
  for (size_t k = 1; k < order.size(); k++)
    overlap |=
        targets->keys[order[k - 1]].first + targets->keys[order[k - 1]].n > targets->keys[order[k]].first;
  return overlap;
}

void BatchClear(Batch *batch)
{
  batch->items.clear();
  batch->pieces.clear();
  batch->centres.clear();
  for (const GramPack &pack : batch->packs) batch->pack_at[pack.first] = -1;
  batch->packs.clear();
  TargetsClear(&batch->rows);
  TargetsClear(&batch->cols);
  batch->packed = batch->first = 0;
  batch->used                  = 0;
  batch->pairs                 = 0;
}

int BatchCentre(GramTiles t, Batch *batch, const double *box)
{
  const PetscInt dim = t->kernel.dim;

  for (PetscInt c = 0; c < dim; c++) batch->centres.push_back(box ? (box[c] + box[dim + c]) / 2 : 0);
  return (int)(batch->centres.size() / (size_t)dim) - 1;
}

/* The open item becomes one per strip. Double takes coordinates as they are where it subtracts them. */
void BatchClose(GramTiles t, GramTier tier, int mode)
{
  Batch         *batch = &CudaOf(t)->batches[tier][mode];
  const PetscInt dim = t->kernel.dim, strip = batch->kernel.strip;
  const size_t   numbers = (size_t)Numbers(t) * batch->kernel.width;
  const int      count   = (int)batch->pieces.size() - batch->first;
  Side          *rows    = RowsIn(t, mode);
  int            centre  = -1;

  if (!count) return;
  if (tier == GRAM_DIRECT)
    centre = BatchCentre(t, batch, Narrow(t) ? BoxOf(rows, dim, batch->row, batch->n_rows) : NULL);
  for (PetscInt i = 0; i < batch->n_rows; i += strip) {
    GramItem item = {(long long)(batch->used + (size_t)i * numbers),
                     (int)(batch->row + i),
                     (int)std::min(strip, batch->n_rows - i),
                     (int)(i / strip),
                     batch->first,
                     count,
                     centre,
                     0};

    if (tier == GRAM_FACTORED) {
      const double *box = BoxOf(rows, dim, item.row, item.n_rows);

      item.centre   = BatchCentre(t, batch, box);
      item.row_bits = (int)std::floor(14 - HalfSquare(dim, box));
    }
    batch->items.push_back(item);
  }
  TargetsAdd(&batch->rows, rows->n, batch->row, batch->n_rows, batch->used, 0, 1);
  batch->used += (size_t)batch->n_rows * numbers;
  batch->first = (int)batch->pieces.size();
}

/* where TilePack() leaves the columns, in sixteens */
int BatchPack(Batch *batch, PetscInt n_points, PetscInt col, PetscInt n_cols, int *index)
{
  if (batch->pack_at.empty()) batch->pack_at.assign(n_points, -1);
  *index = batch->pack_at[col];
  if (*index < 0 || batch->packs[*index].n != n_cols) {
    *index = batch->pack_at[col] = (int)batch->packs.size();
    batch->packs.push_back({(int)col, (int)n_cols, batch->packed});
    batch->packed += (int)(n_cols + 15) / 16;
  }
  return batch->packs[*index].panel;
}

/* How tiles become items: so many in the same rows share one, or every step of columns gets one of its own. */
struct Cut {
  int  share;
  bool steps;
};

/* y_I += B v_J for the tile of rows and columns, and what its columns get when sums is set */
void BatchAdd(GramTiles t, GramTier tier, int mode, PetscInt row, PetscInt n_rows, PetscInt col,
              PetscInt n_cols, bool sums, Cut cut)
{
  Batch         *batch    = &CudaOf(t)->batches[tier][mode];
  const size_t   numbers  = (size_t)Numbers(t) * (size_t)batch->kernel.width;
  const PetscInt step     = cut.steps ? batch->kernel.step : n_cols,
                 n_strips = (n_rows + batch->kernel.strip - 1) / batch->kernel.strip;
  Side  *rows = RowsIn(t, mode), *cols = ColsIn(t, mode);
  int    panel = 0, scale = 0, bits = 0;
  size_t sum;

  if (row != batch->row || n_rows != batch->n_rows) BatchClose(t, tier, mode);
  batch->row    = row;
  batch->n_rows = n_rows;
  sum           = batch->used;
  if (sums) {
    batch->used += (size_t)n_strips * (size_t)n_cols * numbers;
    TargetsAdd(CudaOf(t)->u_now == CudaOf(t)->y.p ? &batch->rows : &batch->cols, cols->n, col, n_cols, sum,
               (size_t)n_cols * numbers, (int)n_strips);
  }
  if (batch->kernel.pack) {
    panel = BatchPack(batch, cols->n, col, n_cols, &scale);
    bits  = (int)LeastSquare(t->kernel.dim, BoxOf(rows, t->kernel.dim, row, n_rows),
                             BoxOf(cols, t->kernel.dim, col, n_cols));
  }
  for (PetscInt j = 0; j < n_cols; j += step) {
    batch->pieces.push_back({sums ? (long long)(sum + (size_t)j * numbers) : -1,
                             (long long)((size_t)n_cols * numbers), (int)(col + j),
                             (int)std::min(step, n_cols - j), panel + (int)j / 16, scale, bits});
    if (cut.steps || (int)batch->pieces.size() - batch->first >= cut.share) BatchClose(t, tier, mode);
  }
  if (mode != TRANSPOSED) batch->pairs += (PetscReal)n_rows * (PetscReal)n_cols;
}

/* ---- launches */

/* y[(first + i) size + part][r0 + r] += unit times each of the partial sums [i][number][r] of a key, one after the other */
struct FoldWork {
  const GramFoldKey *keys;
  const long long   *places; /* of partial sums */
  const double      *sums;
  double            *y;
  int                q, r0, width, widest, numbers; /* width of widest columns count */
  int                size, values; /* numbers of a point in y, and whether the first is its value */
  double             unit;
};

#define AHEAD 8 /* loads on their way at once */

__global__ void TileFold(FoldWork k)
{
  const GramFoldKey key = k.keys[blockIdx.y];
  const int         e = (int)(blockIdx.x * blockDim.x + threadIdx.x), r = e % k.widest,
            number = e / k.widest % k.numbers, i = e / k.widest / k.numbers,
            part = k.numbers == 1 ? 0 : number - !k.values;

  if (i >= key.n || r >= k.width || part < 0 || part >= k.size) return;

  double      *y    = k.y + ((size_t)(key.first + i) * k.size + part) * k.q + k.r0 + r;
  const double unit = number ? k.unit : 1;
  double       sum  = *y;

  for (int f = key.begin; f < key.end; f += AHEAD) {
    double some[AHEAD];

#pragma unroll
    for (int o = 0; o < AHEAD; o++) some[o] = f + o < key.end ? k.sums[k.places[f + o] + e] : 0;
#pragma unroll
    for (int o = 0; o < AHEAD; o++) sum += unit * some[o];
  }
  *y = sum;
}

/* largest[r] = the largest of itself and all |v[first ... first + n)[r]|: doubles >= 0 are in the order of their bits */
__global__ void TileLargest(const double *v, int first, int n, int q, double *largest)
{
  double most = 0;

  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    most = fmax(most, fabs(v[(size_t)(first + i) * q + blockIdx.y]));
  for (int o = 16; o > 0; o /= 2) most = fmax(most, __shfl_xor_sync(0xffffffffu, most, o));
  if ((threadIdx.x & 31) == 0)
    atomicMax((unsigned long long *)(largest + blockIdx.y), (unsigned long long)__double_as_longlong(most));
}

template <typename T> size_t BytesOf(const std::vector<T> &list)
{
  return (list.size() * sizeof(T) + 15) / 16 * 16;
}

/* the list to place at of an upload; where it will be on the device */
template <typename T> const T *Put(Upload *upload, size_t *at, const std::vector<T> &list)
{
  const T *there = (const T *)(upload->device + *at);

  if (!list.empty()) memcpy(upload->host + *at, list.data(), list.size() * sizeof(T));
  *at += BytesOf(list);
  return there;
}

/* an upload that nothing on the device reads any more, with room for so many bytes */
PetscErrorCode UploadNext(TilesCUDA *cuda, size_t bytes, Upload **next)
{
  Upload *upload = cuda->ring + cuda->turn;

  PetscFunctionBegin;
  cuda->turn = (cuda->turn + 1) % RING;
  if (!upload->done) {
    GramCallCUDA(cudaEventCreateWithFlags(&upload->there, cudaEventDisableTiming));
    GramCallCUDA(cudaEventCreateWithFlags(&upload->done, cudaEventDisableTiming));
  }
  if (upload->busy) {
    GramCallCUDA(cudaEventSynchronize(upload->done));
    PetscCall(GramProgressAdd(upload->pairs));
    upload->busy = false;
  }
  if (bytes > upload->room) {
    GramCallCUDA(cudaFreeHost(upload->host));
    GramCallCUDA(cudaFree(upload->device));
    upload->host = upload->device = NULL;
    upload->room                  = 0;
    bytes += bytes / 2;
    GramCallCUDA(cudaMallocHost((void **)&upload->host, bytes));
    GramCallCUDA(cudaMalloc((void **)&upload->device, bytes));
    upload->room = bytes;
  }
  *next = upload;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* partial sums to y or u: to all ranges at once, or one after the other where they overlap */
PetscErrorCode Fold(GramTiles t, const Targets *targets, bool overlap, bool to_u, FoldWork work)
{
  TilesCUDA *cuda   = CudaOf(t);
  Device    *device = DeviceOf(t);
  PetscInt  *from = to_u ? &cuda->u_from : &cuda->y_from, *to = to_u ? &cuda->u_to : &cuda->y_to;
  const int  n_keys  = (int)targets->keys.size();
  int        longest = 0;

  PetscFunctionBegin;
  for (const GramFoldKey &key : targets->keys) {
    longest = std::max(longest, key.n);
    *from   = std::min(*from, (PetscInt)key.first);
    *to     = std::max(*to, (PetscInt)(key.first + key.n));
  }
  work.y       = to_u ? cuda->u_now : cuda->y.p;
  work.size    = (int)GramPartSize(to_u ? t->cols : t->rows, t->kernel.dim);
  work.values  = (to_u ? t->cols : t->rows) & GRAM_VALUE;
  work.numbers = (int)Numbers(t);
  for (int k = 0; k < n_keys; k += overlap ? 1 : 65535) {
    const dim3 grid((unsigned)((size_t)longest * work.numbers * work.widest + 127) / 128,
                    overlap ? 1 : (unsigned)std::min(n_keys - k, 65535));
    FoldWork   some = work;

    some.keys = work.keys + k;
    GRAM_LAUNCH(TileFold, grid, 128, device->stream, some);
    GramCallCUDA(cudaGetLastError());
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode BatchLaunch(GramTiles t, GramTier tier, int mode)
{
  TilesCUDA             *cuda       = CudaOf(t);
  Device                *device     = DeviceOf(t);
  Batch                 *batch      = &cuda->batches[tier][mode];
  const GramTileKernel  *kernel     = &batch->kernel;
  const bool             transposed = mode == TRANSPOSED;
  const PetscInt         of_w       = cuda->w_now == cuda->v_now ? 0 : t->q; /* place of its largest */
  const size_t           eights     = (size_t)(kernel->width + 7) / 8;
  const Side            *x = RowsIn(t, mode), *z = ColsIn(t, mode);
  std::vector<long long> row_folds, col_folds;
  size_t                 at     = 0;
  Upload                *upload = NULL;
  GramWork               work   = {};
  FoldWork               fold   = {}, to_rows, to_cols;
  bool                   row_overlap, col_overlap;

  PetscFunctionBegin;
  BatchClose(t, tier, mode);
  if (batch->items.empty()) PetscFunctionReturn(PETSC_SUCCESS);
  row_overlap = TargetsSort(&batch->rows, &row_folds);
  col_overlap = TargetsSort(&batch->cols, &col_folds);
  PetscCall(RoomReserve(&cuda->sums, batch->used));
  if (kernel->pack) {
    PetscCall(RoomReserve(&cuda->panel, (size_t)batch->packed * eights * 32));
    PetscCall(RoomReserve(&cuda->panel_scale, batch->packs.size() * (size_t)kernel->width));
  }

  PetscCall(UploadNext(cuda,
                       BytesOf(batch->items) + BytesOf(batch->pieces) + BytesOf(batch->centres) +
                           BytesOf(batch->packs) + BytesOf(batch->rows.keys) + BytesOf(batch->cols.keys) +
                           BytesOf(row_folds) + BytesOf(col_folds),
                       &upload));
  work.items   = Put(upload, &at, batch->items);
  work.pieces  = Put(upload, &at, batch->pieces);
  work.centres = Put(upload, &at, batch->centres);
  work.packs   = Put(upload, &at, batch->packs);
  fold.sums    = cuda->sums.p;
  fold.unit    = GramKernelUnit(&t->kernel);
  fold.q       = (int)t->q;
  fold.widest  = kernel->width;
  to_rows = to_cols = fold;
  to_rows.keys      = Put(upload, &at, batch->rows.keys);
  to_cols.keys      = Put(upload, &at, batch->cols.keys);
  to_rows.places    = Put(upload, &at, row_folds);
  to_cols.places    = Put(upload, &at, col_folds);
  GramCallCUDA(cudaMemcpyAsync(upload->device, upload->host, at, cudaMemcpyHostToDevice, device->uploads));
  GramCallCUDA(cudaEventRecord(upload->there, device->uploads));
  GramCallCUDA(cudaStreamWaitEvent(device->stream, upload->there, 0));
  if (!cuda->timed) GramCallCUDA(cudaEventRecord(cuda->first, device->stream));
  cuda->timed = true;

  work.x           = x->x.p;
  work.z           = z->x.p;
  work.ldx         = x->n;
  work.ldz         = z->n;
  work.v           = transposed ? cuda->w_now : cuda->v_now;
  work.w           = transposed ? cuda->v_now : cuda->w_now;
  work.dim         = (int)t->kernel.dim;
  work.q           = (int)t->q;
  work.rows        = transposed ? t->cols : t->rows;
  work.cols        = transposed ? t->rows : t->cols;
  work.v_largest   = cuda->largest.p + (transposed ? of_w : 0);
  work.w_largest   = cuda->largest.p + (transposed ? 0 : of_w);
  work.unit        = fold.unit;
  work.beta        = t->kernel.beta;
  work.row_sums    = cuda->sums.p;
  work.col_sums    = cuda->sums.p;
  work.panel       = cuda->panel.p;
  work.panel_scale = cuda->panel_scale.p;
  for (int r0 = 0; r0 < t->q; r0 += kernel->width) {
    work.r0    = r0;
    work.width = std::min(kernel->width, (int)t->q - r0);
    to_rows.r0 = to_cols.r0 = r0;
    to_rows.width = to_cols.width = work.width;
    if (kernel->pack) kernel->pack(&work, (int)batch->packs.size(), device->stream);
    kernel->launch(&work, (int)batch->items.size(), device->stream);
    GramCallCUDA(cudaGetLastError());
    PetscCall(Fold(t, &batch->rows, row_overlap, transposed, to_rows));
    PetscCall(Fold(t, &batch->cols, col_overlap, !transposed, to_cols));
  }
  GramCallCUDA(cudaEventRecord(upload->done, device->stream));
  upload->busy  = true;
  upload->pairs = batch->pairs;
  BatchClear(batch);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- lists of tiles */

/* numbers of partial sums before a batch is launched: a sixteenth of the rank's share of the memory, 384 MB at most */
size_t Slots(const Device *device) { return (size_t)std::min(48e6, device->bytes / device->sharers / 128); }

/* of a tile, or of its transpose with rows and columns exchanged already */
GramTier TierOf(GramTiles t, int mode, const GramTile *tile)
{
  const GramTileKernel *kernel = &CudaOf(t)->batches[GRAM_FACTORED][mode].kernel;

  if (t->rowwise) return GRAM_DIRECT;
  return TileFactorable(t, kernel, RowsIn(t, mode), tile->row, tile->n_rows, ColsIn(t, mode), tile->col,
                        tile->n_cols)
             ? GRAM_FACTORED
             : GRAM_DIRECT;
}

/*
  Tiles are cut where there are few of them for the device. Rows of a reproducible product have one tile in a list, and its
  sums must not depend on the rest of that list: so the sizes of the point sets decide, which are those of all points
  then. Rows that must not depend on each other are always cut, and their steps added one by one.
*/
Cut CutOf(GramTiles t, size_t slots)
{
  TilesCUDA   *cuda   = CudaOf(t);
  const double blocks = t->n / 1024.0 / (t->square ? 2 : 1), processors = DeviceOf(t)->processors;
  double       strips = 0, sums = 0;
  int          strip = 0;
  Cut          cut;

  for (const GramTile &tile : cuda->pending) {
    const int             mode   = tile.use == GRAM_TILE_ONCE ? ONCE : BOTH;
    const GramTileKernel *fast   = &cuda->batches[GRAM_FACTORED][mode].kernel,
                         *kernel = fast->launch ? fast : &cuda->batches[GRAM_DIRECT][mode].kernel;
    const double n               = (tile.n_rows + kernel->strip - 1) / kernel->strip;

    strip = kernel->strip;
    strips += n;
    sums += (double)Numbers(t) * kernel->width * (tile.n_rows + (kernel->both ? n * tile.n_cols : 0));
  }
  /* of a batch: all that is pending, or what the partial sums have room for */
  cut.share = (int)std::max(
      1.0, std::min((double)LONGEST,
                    strips * std::min(1.0, (double)slots / std::max(1.0, sums)) / processors / PLENTY));
  cut.steps = t->rowwise || (strip && (double)t->m / strip * std::max(1.0, blocks) < processors * ITEMS);
  return cut;
}

/* a tile to the batch of its tier, launched when its partial sums are many */
PetscErrorCode TileAdd(GramTiles t, int mode, const GramTile *tile, bool sums, Cut cut, size_t slots)
{
  const GramTier tier = TierOf(t, mode, tile);

  PetscFunctionBegin;
  /* without a way to sum columns, the transpose comes by itself */
  if (mode == BOTH && !CudaOf(t)->batches[tier][BOTH].kernel.both) mode = ONCE;
  BatchAdd(t, tier, mode, tile->row, tile->n_rows, tile->col, tile->n_cols, sums && mode == BOTH, cut);
  if (sums && mode == ONCE)
    CudaOf(t)->turned.push_back({tile->col, tile->n_cols, tile->row, tile->n_rows, GRAM_TILE_ONCE});
  if (CudaOf(t)->batches[tier][mode].used > slots) PetscCall(BatchLaunch(t, tier, mode));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* what has been collected, planned and launched */
PetscErrorCode Flush(GramTiles t)
{
  TilesCUDA     *cuda  = CudaOf(t);
  const PetscInt dim   = t->kernel.dim;
  const size_t   slots = Slots(DeviceOf(t));
  const Cut      cut   = CutOf(t, slots);
  PetscReal      none  = 0;

  PetscFunctionBegin;
  for (const GramTile &tile : cuda->pending) {
    const double nearest = LeastSquare(dim, BoxOf(&cuda->rows, dim, tile.row, tile.n_rows),
                                       BoxOf(ColumnsOf(t), dim, tile.col, tile.n_cols));

    if (!Derivatives(t) && !t->rowwise && Vanishes(t->kernel.radial, Narrow(t), nearest))
      none += (PetscReal)tile.n_rows * (PetscReal)tile.n_cols;
    else /* one on the diagonal is evaluated whole, among those for both that follow it in its rows */
      PetscCall(TileAdd(t, tile.use == GRAM_TILE_ONCE ? ONCE : BOTH, &tile, tile.use == GRAM_TILE_BOTH, cut,
                        slots));
  }
  cuda->pending.clear();
  /* those in the same rows one after the other */
  std::stable_sort(cuda->turned.begin(), cuda->turned.end(),
                   [](const GramTile &a, const GramTile &b) { return a.row < b.row; });
  for (const GramTile &tile : cuda->turned) PetscCall(TileAdd(t, TRANSPOSED, &tile, false, cut, slots));
  cuda->turned.clear();
  for (int b = 0; b < 2 * MODES; b++) PetscCall(BatchLaunch(t, (GramTier)(b / MODES), b % MODES));
  if (none > 0) PetscCall(GramProgressAdd(none));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode Add_CUDA(GramTiles t, PetscInt n_tiles, const GramTile list[])
{
  TilesCUDA *cuda = CudaOf(t);

  PetscFunctionBegin;
  GramCallCUDA(cudaSetDevice(DeviceOf(t)->index));
  for (const GramTile *tile = list; tile < list + n_tiles; tile++) {
    for (PetscInt j = 0; j < tile->n_cols; j += WIDEST) {
      GramTile part = *tile;

      part.col += j;
      part.n_cols = std::min(WIDEST, tile->n_cols - j);
      if (part.n_rows) cuda->pending.push_back(part);
    }
  }
  /* the first list at once: its tiles are computed while the host waits for the others' columns */
  if (!cuda->began || cuda->pending.size() >= PENDING) PetscCall(Flush(t));
  cuda->began = true;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- products */

/* is it memory of the device? */
PetscErrorCode OnDevice(const void *p, bool *on)
{
  cudaPointerAttributes attributes;

  PetscFunctionBegin;
  *on = false;
  if (!p) PetscFunctionReturn(PETSC_SUCCESS);
  GramCallCUDA(cudaPointerGetAttributes(&attributes, p));
  *on = attributes.type == cudaMemoryTypeDevice;
  PetscFunctionReturn(PETSC_SUCCESS);
}

void KernelsPick(GramTiles t)
{
  TilesCUDA              *cuda = CudaOf(t);
  const GramTileCudaCode *code = Narrow(t) ? &GramTileCuda_f32 : &GramTileCuda_f64;

  for (int tier = GRAM_DIRECT; tier <= GRAM_FACTORED; tier++) {
    for (int mode = 0; mode < MODES; mode++)
      cuda->batches[tier][mode].kernel = code->pick((GramTier)tier, t->kernel.radial, (int)t->kernel.dim,
                                                    Derivatives(t), (int)t->q, mode == BOTH);
  }
}

PetscErrorCode Begin_CUDA(GramTiles t, PetscInt q, const PetscReal *v, PetscReal *y, const PetscReal *w,
                          PetscReal *u)
{
  TilesCUDA   *cuda   = CudaOf(t);
  Device      *device = DeviceOf(t);
  const size_t n_y    = GramAt(t->m, GramPartSize(t->rows, t->kernel.dim), 0) * (size_t)q,
               n_u    = GramAt(t->n, GramPartSize(t->cols, t->kernel.dim), 0) * (size_t)q;
  bool there;

  PetscFunctionBegin;
  GramCallCUDA(cudaSetDevice(device->index));
  if (!cuda->first) {
    GramCallCUDA(cudaEventCreate(&cuda->first));
    GramCallCUDA(cudaEventCreate(&cuda->last));
  }
  PetscCall(SideUpload(&cuda->rows, t->kernel.dim, device->stream));
  if (!t->square) PetscCall(SideUpload(&cuda->cols, t->kernel.dim, device->stream));
  KernelsPick(t);

  PetscCall(OnDevice(v, &there));
  if (!there) PetscCall(RoomReserve(&cuda->v, n_u));
  cuda->v_now = there ? v : cuda->v.p;
  cuda->w_now = cuda->v_now;
  if (w && w != v) {
    PetscCall(OnDevice(w, &there));
    if (!there) PetscCall(RoomReserve(&cuda->w, n_y));
    cuda->w_now = there ? w : cuda->w.p;
  }
  PetscCall(RoomReserve(&cuda->y, n_y));
  if (n_y) GramCallCUDA(cudaMemsetAsync(cuda->y.p, 0, n_y * sizeof(double), device->stream));
  cuda->u_now = cuda->y.p;
  if (u && u != y) {
    PetscCall(RoomReserve(&cuda->u, n_u));
    if (n_u) GramCallCUDA(cudaMemsetAsync(cuda->u.p, 0, n_u * sizeof(double), device->stream));
    cuda->u_now = cuda->u.p;
  }
  PetscCall(RoomReserve(&cuda->largest, 2 * (size_t)q));
  GramCallCUDA(cudaMemsetAsync(cuda->largest.p, 0, 2 * (size_t)q * sizeof(double), device->stream));
  cuda->y_from = t->m;
  cuda->u_from = t->n;
  cuda->y_to = cuda->u_to = 0;
  cuda->began = cuda->timed = false;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode Filled_CUDA(GramTiles t, PetscBool of_w, PetscInt first, PetscInt n)
{
  TilesCUDA    *cuda   = CudaOf(t);
  Device       *device = DeviceOf(t);
  const double *from = of_w ? t->w : t->v, *to = of_w ? cuda->w_now : cuda->v_now;
  const size_t  row = (size_t)(GramPartSize(of_w ? t->rows : t->cols, t->kernel.dim) * t->q);
  const dim3    grid((unsigned)std::min(2 * device->processors, (int)(n + 255) / 256), (unsigned)t->q);

  PetscFunctionBegin;
  GramCallCUDA(cudaSetDevice(device->index));
  if (from != to)
    GramCallCUDA(cudaMemcpyAsync((double *)to + (size_t)first * row, from + (size_t)first * row,
                                 (size_t)n * row * sizeof(double), cudaMemcpyHostToDevice, device->stream));
  if (cuda->batches[GRAM_FACTORED][ONCE].kernel.scaled) {
    GRAM_LAUNCH(TileLargest, grid, 256, device->stream, to, (int)first, (int)n, (int)t->q,
                cuda->largest.p + (of_w ? t->q : 0));
    GramCallCUDA(cudaGetLastError());
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* y [from ... to) += what the device has summed */
PetscErrorCode BringBack(GramTiles t, const double *sums, PetscInt from, PetscInt to, PetscInt size,
                         PetscReal *y)
{
  TilesCUDA   *cuda = CudaOf(t);
  const size_t row = (size_t)(size * t->q), n = to > from ? (size_t)(to - from) * row : 0;

  PetscFunctionBegin;
  if (!n) PetscFunctionReturn(PETSC_SUCCESS);
  if (n > cuda->n_bounce) {
    GramCallCUDA(cudaFreeHost(cuda->bounce));
    cuda->bounce   = NULL;
    cuda->n_bounce = 0;
    GramCallCUDA(cudaMallocHost((void **)&cuda->bounce, n * sizeof(double)));
    cuda->n_bounce = n;
  }
  GramCallCUDA(cudaMemcpyAsync(cuda->bounce, sums + (size_t)from * row, n * sizeof(double),
                               cudaMemcpyDeviceToHost, DeviceOf(t)->stream));
  GramCallCUDA(cudaStreamSynchronize(DeviceOf(t)->stream));
  for (size_t i = 0; i < n; i++) y[(size_t)from * row + i] += cuda->bounce[i];
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode End_CUDA(GramTiles t)
{
  TilesCUDA     *cuda = CudaOf(t);
  const PetscInt a = GramPartSize(t->rows, t->kernel.dim), b = GramPartSize(t->cols, t->kernel.dim);
  float          ms;

  PetscFunctionBegin;
  GramCallCUDA(cudaSetDevice(DeviceOf(t)->index));
  PetscCall(Flush(t));
  GramCallCUDA(cudaEventRecord(cuda->last, DeviceOf(t)->stream));
  if (t->u == t->y) {
    cuda->y_from = std::min(cuda->y_from, cuda->u_from);
    cuda->y_to   = std::max(cuda->y_to, cuda->u_to);
  }
  PetscCall(BringBack(t, cuda->y.p, cuda->y_from, cuda->y_to, a, t->y));
  if (t->u && t->u != t->y) PetscCall(BringBack(t, cuda->u_now, cuda->u_from, cuda->u_to, b, t->u));
  GramCallCUDA(cudaStreamSynchronize(DeviceOf(t)->stream)); /* v and w may be written again */
  if (cuda->timed) {
    GramCallCUDA(cudaEventElapsedTime(&ms, cuda->first, cuda->last));
    t->device_seconds += 1e-3 * (PetscLogDouble)ms;
  }
  for (Upload &upload : cuda->ring) {
    if (upload.busy) PetscCall(GramProgressAdd(upload.pairs));
    upload.busy = false;
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- points */

PetscErrorCode TilesCreate_CUDA(GramTiles t, PetscInt m, const PetscReal *x, PetscInt n, const PetscReal *z)
{
  const PetscInt  dim    = t->kernel.dim;
  const PetscReal unit   = GramKernelUnit(&t->kernel);
  TilesCUDA      *cuda   = new TilesCUDA();
  double          extent = 0;

  PetscFunctionBegin;
  t->data = cuda;
  PetscCall(GramTilesCreate(DeviceOf(t)->cpu, &t->kernel, t->rows, m, x, t->cols, n, t->square ? NULL : z,
                            &cuda->entries));
  PetscCall(SideCreate(&cuda->rows, dim, m, x, unit));
  if (!t->square) PetscCall(SideCreate(&cuda->cols, dim, n, z, unit));
  if (m && n) extent = MostSquare(dim, BoxOf(&cuda->rows, dim, 0, m), BoxOf(ColumnsOf(t), dim, 0, n));
  cuda->narrow = t->backend->precision != GRAM_DOUBLE && extent < FAR_SINGLE;
  for (int b = 0; b < 2 * MODES; b++) BatchClear(&cuda->batches[b / MODES][b % MODES]);
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode TilesDestroy_CUDA(GramTiles t)
{
  TilesCUDA *cuda = CudaOf(t);

  PetscFunctionBegin;
  GramCallCUDA(cudaSetDevice(DeviceOf(t)->index));
  for (Upload &upload : cuda->ring) {
    if (upload.done) {
      GramCallCUDA(cudaEventDestroy(upload.there));
      GramCallCUDA(cudaEventDestroy(upload.done));
    }
    GramCallCUDA(cudaFreeHost(upload.host));
    GramCallCUDA(cudaFree(upload.device));
  }
  if (cuda->first) {
    GramCallCUDA(cudaEventDestroy(cuda->first));
    GramCallCUDA(cudaEventDestroy(cuda->last));
  }
  GramCallCUDA(cudaFreeHost(cuda->bounce));
  PetscCall(RoomFree(&cuda->v));
  PetscCall(RoomFree(&cuda->w));
  PetscCall(RoomFree(&cuda->y));
  PetscCall(RoomFree(&cuda->u));
  PetscCall(RoomFree(&cuda->sums));
  PetscCall(RoomFree(&cuda->largest));
  PetscCall(RoomFree(&cuda->panel));
  PetscCall(RoomFree(&cuda->panel_scale));
  PetscCall(SideDestroy(&cuda->rows));
  PetscCall(SideDestroy(&cuda->cols));
  PetscCall(GramTilesDestroy(&cuda->entries));
  delete cuda;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode Entries_CUDA(GramTiles t, PetscInt n_rows, const PetscInt rows[], PetscInt n_cols,
                            const PetscInt cols[], PetscReal *a, PetscInt lda)
{
  PetscFunctionBegin;
  PetscCall(GramTilesEntries(CudaOf(t)->entries, n_rows, rows, n_cols, cols, a, lda));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- Coulomb forces */

/* charges of a piece: some pieces even where rows are few, and not so many that their sums take more than the points */
int CoulombPiece(PetscInt n) { return (int)std::max<PetscInt>(1024, (n / 16 + 127) / 128 * 128 + 128); }

/* [n][dim] to [dim][n] on the device */
PetscErrorCode CoulombUpload(PetscInt dim, PetscInt n, const PetscReal *x, std::vector<double> *host,
                             Room<double> *to, cudaStream_t stream)
{
  PetscFunctionBegin;
  host->resize(GramAt(n, dim, 0));
  for (PetscInt c = 0; c < dim; c++) {
    for (PetscInt i = 0; i < n; i++) (*host)[GramAt(c, n, i)] = x[GramAt(i, dim, c)];
  }
  PetscCall(RoomReserve(to, GramAt(n, dim, 1)));
  GramCallCUDA(
      cudaMemcpyAsync(to->p, host->data(), host->size() * sizeof(double), cudaMemcpyHostToDevice, stream));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode Coulomb_CUDA(GramBackend backend, PetscInt dim, PetscInt m, const PetscReal *x, PetscInt n,
                            const PetscReal *z, const GramCloud *cloud, PetscReal *out)
{
  const Device       *device = (Device *)backend->data;
  const PetscInt      width  = dim + GRAM_COULOMB_EXTRA;
  std::vector<double> rows, cols, centre((size_t)dim, 0.0);
  Room<double>        room[6] = {};
  GramCoulombWork     work    = {};
  double              extent2 = 0;

  PetscFunctionBegin;
  GramCallCUDA(cudaSetDevice(device->index));
  for (PetscInt c = 0; c < dim; c++) {
    for (PetscInt j = 0; j < n; j++) centre[(size_t)c] += z[GramAt(j, dim, c)] / (double)n;
  }
  work.dim    = (int)dim;
  work.m      = (int)m;
  work.n      = (int)n;
  work.piece  = CoulombPiece(n);
  work.pieces = std::max(1, (work.n + work.piece - 1) / work.piece);
  work.narrow = backend->precision != GRAM_DOUBLE;
  for (PetscInt c = 0; c < dim; c++) {
    double least = PETSC_MAX_REAL, most = -PETSC_MAX_REAL;

    for (PetscInt i = 0; i < m + n; i++) {
      const double at = i < m ? x[GramAt(i, dim, c)] : z[GramAt(i - m, dim, c)];

      least = std::min(least, at);
      most  = std::max(most, at);
    }
    extent2 += most > least ? (most - least) * (most - least) : 0;
  }
  if (extent2 > GRAM_COULOMB_FAR) work.narrow = false;
  PetscCall(CoulombUpload(dim, m, x, &rows, room, device->stream));
  PetscCall(CoulombUpload(dim, n, z, &cols, room + 1, device->stream));
  PetscCall(RoomReserve(room + 2, (size_t)dim));
  GramCallCUDA(cudaMemcpyAsync(room[2].p, centre.data(), (size_t)dim * sizeof(double), cudaMemcpyHostToDevice,
                               device->stream));
  if (cloud) {
    PetscCall(RoomReserve(room + 3, (size_t)n + 1));
    GramCallCUDA(cudaMemcpyAsync(room[3].p, cloud->charge, (size_t)n * sizeof(double), cudaMemcpyHostToDevice,
                                 device->stream));
    work.softening2 = cloud->softening2;
  }
  PetscCall(RoomReserve(room + 4, (size_t)work.pieces * GramAt(m, width, 0)));
  PetscCall(RoomReserve(room + 5, GramAt(m, width, 0)));
  work.x       = room[0].p;
  work.z       = room[1].p;
  work.centre  = room[2].p;
  work.charge  = room[3].p;
  work.partial = room[4].p;
  work.out     = room[5].p;
  GramCoulombLaunch(&work, device->stream);
  GramCallCUDA(cudaGetLastError());
  GramCallCUDA(cudaMemcpyAsync(out, work.out, GramAt(m, width, 0) * sizeof(double), cudaMemcpyDeviceToHost,
                               device->stream));
  GramCallCUDA(cudaStreamSynchronize(device->stream));
  for (Room<double> &r : room) PetscCall(RoomFree(&r));
  PetscCall(GramProgressAdd((PetscReal)m * (PetscReal)n));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- memory */

PetscErrorCode Malloc_CUDA(GramTiles t, GramPanelUse use, size_t numbers, PetscReal **panel)
{
  PetscFunctionBegin;
  GramCallCUDA(cudaSetDevice(DeviceOf(t)->index));
  if (use == GRAM_PANEL_IN && DeviceOf(t)->mpi_reaches)
    GramCallCUDA(cudaMalloc((void **)panel, numbers * sizeof(PetscReal)));
  else GramCallCUDA(cudaMallocHost((void **)panel, numbers * sizeof(PetscReal)));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode Free_CUDA(GramTiles t, PetscReal **panel)
{
  bool there;

  PetscFunctionBegin;
  (void)t;
  PetscCall(OnDevice(*panel, &there));
  if (there) GramCallCUDA(cudaFree(*panel));
  else GramCallCUDA(cudaFreeHost(*panel));
  *panel = NULL;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode Copy_CUDA(GramBackend backend, void *dst, const void *src, size_t bytes)
{
  bool there, here;

  PetscFunctionBegin;
  PetscCall(OnDevice(dst, &there));
  PetscCall(OnDevice(src, &here));
  if (!there && !here) {
    memcpy(dst, src, bytes);
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  GramCallCUDA(cudaSetDevice(((Device *)backend->data)->index));
  GramCallCUDA(cudaDeviceSynchronize()); /* PETSc may still write what is copied */
  GramCallCUDA(cudaMemcpy(dst, src, bytes, cudaMemcpyDefault));
  GramCallCUDA(cudaDeviceSynchronize()); /* from pageable memory it may still be on its way */
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Points; panels, of which rows that are columns share one but for reproducible products; the packed panel, 64 bytes a
   column; partial sums of a batch, and its plan, about a tenth of them. */
PetscErrorCode Capacity_CUDA(GramBackend backend, PetscInt m, PetscInt n, PetscInt dim, PetscInt q,
                             PetscLogDouble *need, PetscLogDouble *have)
{
  const Device        *device = (Device *)backend->data;
  const PetscLogDouble points = (PetscLogDouble)m + (PetscLogDouble)n, panels = n ? 2 * points : 3 * points;
  size_t               free, total;

  PetscFunctionBegin;
  GramCallCUDA(cudaSetDevice(device->index));
  GramCallCUDA(cudaMemGetInfo(&free, &total));
  *have = (PetscLogDouble)free / device->sharers;
  *need = 8 * points * dim + 8 * panels * q + (q > 2 ? 64 * points : 0) + 8.8 * (PetscLogDouble)Slots(device);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* coordinates here and in the cpu's tiles, boxes, tables of ranges, and the sums on their way back */
PetscLogDouble HostBytes_CUDA(PetscInt points, PetscInt dim, PetscInt q)
{
  return (PetscLogDouble)points * (18.0 * dim + 48 + 8.0 * q);
}

/* ---- the backend */

PetscErrorCode Destroy_CUDA(GramBackend backend)
{
  Device *device = (Device *)backend->data;

  PetscFunctionBegin;
  PetscCall(GramBackendDestroy(&device->cpu));
  GramCallCUDA(cudaSetDevice(device->index));
  GramCallCUDA(cudaStreamDestroy(device->stream));
  GramCallCUDA(cudaStreamDestroy(device->uploads));
  PetscCall(PetscFree(device));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Does MPI take pointers to device memory? */
bool MpiReachesDevice(void)
{
#if defined(GRAM_CUDA_HOST)
  return getenv("GRAM_CUDA_HOST_AWARE") != NULL;
#elif defined(MPIX_CUDA_AWARE_SUPPORT) && MPIX_CUDA_AWARE_SUPPORT
  return MPIX_Query_cuda_support() == 1;
#else
  return false;
#endif
}

/* Ranks of the node on the same device, by its name everywhere: each may see others, or only its own. Collective. */
PetscErrorCode DeviceSharers(MPI_Comm node, const void *uuid, int *sharers)
{
  char        mine[16] = {0}, *all;
  PetscMPIInt size;

  PetscFunctionBegin;
  if (uuid) memcpy(mine, uuid, sizeof mine);
  PetscCallMPI(MPI_Comm_size(node, &size));
  PetscCall(PetscMalloc1(sizeof mine * (size_t)size, &all));
  PetscCallMPI(MPI_Allgather(mine, sizeof mine, MPI_BYTE, all, sizeof mine, MPI_BYTE, node));
  *sharers = 0;
  for (PetscMPIInt r = 0; r < size; r++)
    *sharers += !memcmp(mine, all + sizeof mine * (size_t)r, sizeof mine);
  PetscCall(PetscFree(all));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* A device that can be used: its properties and streams; else why not. */
cudaError_t DeviceOpen(int index, cudaDeviceProp *properties, cudaStream_t *stream, cudaStream_t *uploads)
{
  cudaError_t error = cudaSetDevice(index);

  if (error == cudaSuccess) error = cudaGetDeviceProperties(properties, index);
  if (error == cudaSuccess) error = cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking);
  if (error == cudaSuccess) error = cudaStreamCreateWithFlags(uploads, cudaStreamNonBlocking);
  return error;
}
} // namespace

extern "C" PetscErrorCode GramBackendCreate_CUDA(MPI_Comm comm, GramBackend backend, PetscBool *found)
{
  int            count = 0, index = 0, sharers = 1;
  cudaError_t    error = cudaGetDeviceCount(&count);
  cudaDeviceProp properties;
  cudaStream_t   stream = NULL, uploads = NULL;
  MPI_Comm       node;
  PetscMPIInt    rank;
  Device        *device;

  PetscFunctionBegin;
  *found = PETSC_FALSE;
  if (error != cudaSuccess) count = 0;
  backend->detail = error == cudaErrorInsufficientDriver ? "no CUDA driver, or one older than this build"
                                                         : "no CUDA device found";
  PetscCallMPI(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node));
  PetscCallMPI(MPI_Comm_rank(node, &rank));
  if (count) { /* the ranks of a node take the devices they see in turn */
    index  = rank % count;
    error  = DeviceOpen(index, &properties, &stream, &uploads);
    *found = (PetscBool)(error == cudaSuccess && properties.major >= 8);
    backend->detail =
        error != cudaSuccess ? cudaGetErrorString(error) : "no CUDA device of compute capability 8.0 or more";
  }
  (void)cudaGetLastError();
  PetscCall(DeviceSharers(node, *found ? &properties.uuid : NULL, &sharers));
  PetscCallMPI(MPI_Comm_free(&node));
  if (!*found) {
    if (stream) (void)cudaStreamDestroy(stream);
    if (uploads) (void)cudaStreamDestroy(uploads);
    PetscFunctionReturn(PETSC_SUCCESS);
  }

  PetscCall(PetscNew(&device));
  device->index       = index;
  device->sharers     = sharers;
  device->processors  = properties.multiProcessorCount;
  device->bytes       = (PetscLogDouble)properties.totalGlobalMem;
  device->mpi_reaches = MpiReachesDevice();
  device->stream      = stream;
  device->uploads     = uploads;
  PetscCall(GramBackendCreate(PETSC_COMM_SELF, "cpu", GRAM_DOUBLE, &device->cpu));
  PetscCall(PetscSNPrintf(device->detail, sizeof device->detail, "GPU %d (%s, sm_%d%d)", index,
                          properties.name, properties.major, properties.minor));
  backend->data             = device;
  backend->detail           = device->detail;
  backend->ops              = {};
  backend->ops.destroy      = Destroy_CUDA;
  backend->ops.tilescreate  = TilesCreate_CUDA;
  backend->ops.tilesdestroy = TilesDestroy_CUDA;
  backend->ops.begin        = Begin_CUDA;
  backend->ops.filled       = Filled_CUDA;
  backend->ops.add          = Add_CUDA;
  backend->ops.end          = End_CUDA;
  backend->ops.entries      = Entries_CUDA;
  backend->ops.coulomb      = Coulomb_CUDA;
  backend->ops.malloc       = Malloc_CUDA;
  backend->ops.free         = Free_CUDA;
  backend->ops.copy         = Copy_CUDA;
  backend->ops.capacity     = Capacity_CUDA;
  backend->ops.hostbytes    = HostBytes_CUDA;
  PetscFunctionReturn(PETSC_SUCCESS);
}
