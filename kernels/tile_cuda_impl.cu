/*
  Device functions of the tile product, for one precision: tile_cuda_f32.cu and tile_cuda_f64.cu include this.

  Each takes an item, a strip of rows in registers, and walks over its columns, which it stages in shared memory about
  the item's centre. What a step of columns adds to a row is summed in the precision of the entries, then in double.

      TileValues           up to 3 coordinates, direct or factored; a thread stages one of 128 columns while the block works
                           on those staged before. Where columns get sums too, lane l of a warp takes column l + s at
                           step s, and the sums of columns travel from lane to lane
      TileDerivatives      the same with gradients
      TileWide             any number of coordinates: 32 columns at a time in blocks of registers
      TileDerivativesWide  the same with gradients, one row a thread
      TileTensor           factored Gaussians in float, exponents by tensor cores
      TilePanel            the same for many right-hand sides, sums by tensor cores too
*/
#define GRAM_DEVICE
#include "tile_cuda.h"

#include <cuda_fp16.h>

#define THREADS 128
#define COLUMNS 128
#define WARPS   (THREADS / 32)
#define ALL     0xffffffffu

namespace
{

constexpr bool narrow = sizeof(gram_scalar) == 4;

/* added to squared distances in double, which roots want positive */
constexpr gram_scalar positive = narrow ? gram_scalar(0) : gram_scalar(1e-300);

/* 2^-norm, 0 <= norm <= 120 in double: its whole part goes to the exponent, so that float loses nothing. All lanes. */
__device__ __forceinline__ gram_scalar Exp2NegNorm(double norm)
{
#if TILE_TENSOR
  const double magic = 0x1.8p52, m = __dadd_rn(norm, magic);

  return __int_as_float(__float_as_int(GramEx2((float)__dsub_rn(__dsub_rn(m, magic), norm))) -
                        (int)((unsigned)__double2loint(m) << 23));
#else
  return GramExp2NegOn<false>(norm);
#endif
}

/* ---- columns of an item, so many at a time */

struct Walk {
  int piece, at, n; /* columns at ... at + n of the piece; n = 0: none is left */
};

template <int columns = COLUMNS>
__device__ __forceinline__ Walk WalkTo(const GramWork &k, const GramItem &item, int piece, int at)
{
  Walk walk = {piece, at, 0};

  if (piece < item.first + item.count) walk.n = min(columns, k.pieces[piece].n_cols - at);
  return walk;
}

template <int columns = COLUMNS>
__device__ __forceinline__ Walk WalkBegin(const GramWork &k, const GramItem &item)
{
  return WalkTo<columns>(k, item, item.first, 0);
}

template <int columns = COLUMNS>
__device__ __forceinline__ Walk WalkNext(const GramWork &k, const GramItem &item, const Walk &walk)
{
  return walk.at + columns < k.pieces[walk.piece].n_cols
             ? WalkTo<columns>(k, item, walk.piece, walk.at + columns)
             : WalkTo<columns>(k, item, walk.piece + 1, 0);
}

/* ---- values, up to 3 coordinates */

/* multiply-add slots and units of the special-function unit, 8 slots each, balance: share of powers, in sixteenths,
   that a loop sends to the multiply-add pipe. 2 dim for the distance, one power, one product per right-hand side, as
   many for the columns and their way through the warp; profiles with a root need a second unit and a polynomial. */
__host__ __device__ constexpr int OnFma(GramRadial type, int dim, int width, bool both)
{
#define TILE_COST(UPPER, Camel, name, takes_beta, twonu, powers, fma, ...) {twonu, powers, fma},
  constexpr int costs[][3] = {GRAM_RADIAL_LIST(TILE_COST)};
  const int     twonu = costs[type][0], powers = costs[type][1], units = twonu ? 2 : 1,
            polynomial = twonu > 1 ? (twonu + 1) / 2 : costs[type][2],
            slots      = 2 * dim + units + polynomial + width + (both ? width + 1 : 0),
            surplus =
                (16 * (8 * units - slots) + 8) / 17; /* a power moved frees 8 slots of the unit and costs 9 */

  return narrow && powers && surplus > 0 ? surplus : 0;
}

/* is evaluation e of a loop one of share / 16, spread evenly? */
__host__ __device__ constexpr bool Spread(int e, int share) { return share > 0 && e * share % 16 < share; }

/* numbers that travel together, padded so that loads of 16 bytes (8 for two floats) fetch them */
__host__ __device__ constexpr int RecordSize(int numbers)
{
  constexpr int words = 16 / sizeof(gram_scalar);

  return numbers <= 2 ? 2 : (numbers + words - 1) / words * words;
}
template <int numbers> struct alignas(RecordSize(numbers) * sizeof(gram_scalar) == 8 ? 8 : 16) Record {
  static constexpr int size = RecordSize(numbers);
  gram_scalar          a[size];
};

/* rows a thread holds */
__host__ __device__ constexpr int RowsOf(int width) { return (narrow ? 8 : 4) / (width > 1 ? 2 : 1); }

/* phi between a row and a column; factored: 2^(2 u.y) for x = -2 u */
template <GramRadial type, int dim, bool factored>
__device__ __forceinline__ gram_scalar Entry(const gram_scalar *x, const gram_scalar *z, gram_scalar beta,
                                             bool on_fma)
{
  gram_scalar s = factored ? x[0] * z[0] : positive;

  if constexpr (factored) {
#pragma unroll
    for (int c = 1; c < dim; c++) s = fma(x[c], z[c], s);
    return GramExp2NegOn<false>(s);
  } else {
#pragma unroll
    for (int c = 0; c < dim; c++) {
      const gram_scalar d = x[c] - z[c];

      s = fma(d, d, s);
    }
    return on_fma ? RadialEval<true>(type, s, beta) : RadialEval<false>(type, s, beta);
  }
}

template <int dim, int width, bool both, bool factored>
__device__ __forceinline__ void StageValues(const GramWork &k, const double *centre, const Walk &walk,
                                            Record<dim + width> *columns, gram_scalar *factor)
{
  const int           lane = threadIdx.x & 31, j = k.pieces[walk.piece].col + walk.at + (int)threadIdx.x;
  const bool          real = (int)threadIdx.x < walk.n;
  Record<dim + width> record;
  double              norm = 0;

#pragma unroll
  for (int c = 0; c < record.size; c++) record.a[c] = 0;
#pragma unroll
  for (int c = 0; c < dim; c++) {
    const double y = real ? k.z[c * k.ldz + j] - centre[c] : 0;

    record.a[c] = (gram_scalar)y;
    norm += y * y;
  }
  const gram_scalar f = factored ? Exp2NegNorm(norm) : gram_scalar(1);
#pragma unroll
  for (int r = 0; r < width; r++) {
    if (real && r < k.width)
      record.a[dim + r] =
          (gram_scalar)(factored ? k.v[(size_t)j * k.q + k.r0 + r] * f : k.v[(size_t)j * k.q + k.r0 + r]);
  }
  if (both) { /* strips of 32 columns stand twice in a row: lane l finds column l + s at a constant distance */
    Record<dim + width> *strip = columns + 2 * (threadIdx.x - lane) + lane;

    strip[0] = strip[32] = record;
    if (factored) factor[threadIdx.x] = f;
  } else columns[threadIdx.x] = record;
}

/* what the warps found for the columns at hand goes to the sums of the piece */
template <int width>
__device__ __forceinline__ void ColumnSums(const GramWork &k, const GramItem &item, const Walk &walk,
                                           const gram_scalar (*part)[COLUMNS][width],
                                           const gram_scalar *factor, double scale)
{
  const GramPiece &piece = k.pieces[walk.piece];

  if (piece.sum < 0 || (int)threadIdx.x >= walk.n) return;
  double *sums = k.col_sums + piece.sum + item.strip * piece.stride + (size_t)(walk.at + threadIdx.x) * width;
#pragma unroll
  for (int r = 0; r < width; r++) {
    double sum = 0;

#pragma unroll
    for (int warp = 0; warp < WARPS; warp++) sum += (double)part[warp][threadIdx.x][r];
    sums[r] = factor ? sum * (double)factor[threadIdx.x] * scale : sum;
  }
}

template <GramRadial type, int dim, int width, bool both, bool factored>
__global__ void __launch_bounds__(THREADS) TileValues(GramWork k)
{
  constexpr int rows = RowsOf(width), share = factored ? 0 : OnFma(type, dim, width, both);
  __shared__ Record<dim + width> columns[2][both ? 2 * COLUMNS : COLUMNS];
  __shared__ gram_scalar         part[both ? WARPS : 1][COLUMNS][width];
  __shared__ gram_scalar         factor[2][both && factored ? COLUMNS : 1];
  const GramItem                 item   = k.items[blockIdx.x];
  const double                  *centre = k.centres + (size_t)item.centre * dim;
  const gram_scalar              beta   = (gram_scalar)k.beta;
  const int                      lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  gram_scalar                    x[rows][dim], w[rows][width];
  double                         sum[rows][width];
  Walk                           now = WalkBegin(k, item);

#pragma unroll
  for (int a = 0; a < rows; a++) {
    const int at = a * THREADS + threadIdx.x, i = item.row + min(at, item.n_rows - 1);
    double    norm = 0;

#pragma unroll
    for (int c = 0; c < dim; c++) {
      const double u = k.x[c * k.ldx + i] - centre[c];

      norm += u * u;
      x[a][c] = (gram_scalar)(factored ? -2 * u : u);
    }
    const gram_scalar f = factored ? Exp2NegNorm(norm) : gram_scalar(1);
#pragma unroll
    for (int r = 0; r < width; r++) {
      sum[a][r] = 0;
      w[a][r]   = 0;
      if (both && at < item.n_rows && r < k.width)
        w[a][r] =
            (gram_scalar)(factored ? k.w[(size_t)i * k.q + k.r0 + r] * f : k.w[(size_t)i * k.q + k.r0 + r]);
    }
  }
  StageValues<dim, width, both, factored>(k, centre, now, columns[0], factor[0]);
  for (int turn = 0; now.n; turn ^= 1) {
    const Walk  next = WalkNext(k, item, now);
    gram_scalar y[rows][width];

    __syncthreads();
    if (next.n) StageValues<dim, width, both, factored>(k, centre, next, columns[turn ^ 1], factor[turn ^ 1]);
#pragma unroll
    for (int a = 0; a < rows; a++) {
#pragma unroll
      for (int r = 0; r < width; r++) y[a][r] = 0;
    }
    if (!both) {
#pragma unroll 1
      for (int j = 0; j < now.n; j += 4) { /* behind the last column stand zeros */
#pragma unroll
        for (int b = 0; b < 4; b++) {
          const Record<dim + width> column = columns[turn][j + b];

#pragma unroll
          for (int a = 0; a < rows; a++) {
            const gram_scalar p =
                Entry<type, dim, factored>(x[a], column.a, beta, Spread(b * rows + a, share));

#pragma unroll
            for (int r = 0; r < width; r++) y[a][r] = fma(p, column.a[dim + r], y[a][r]);
          }
        }
      }
    } else {
#pragma unroll 1
      for (int strip = 0; strip < now.n; strip += 32) {
        gram_scalar u[width];

#pragma unroll
        for (int r = 0; r < width; r++) u[r] = 0;
#pragma unroll 1
        for (int s = 0; s < 32; s += 2) {
#pragma unroll
          for (int b = 0; b < 2; b++) {
            const Record<dim + width> column = columns[turn][2 * strip + lane + s + b];

#pragma unroll
            for (int a = 0; a < rows; a++) {
              const gram_scalar p =
                  Entry<type, dim, factored>(x[a], column.a, beta, Spread(b * rows + a, share));

#pragma unroll
              for (int r = 0; r < width; r++) {
                y[a][r] = fma(p, column.a[dim + r], y[a][r]);
                u[r]    = fma(p, w[a][r], u[r]);
              }
            }
#pragma unroll
            for (int r = 0; r < width; r++) u[r] = __shfl_sync(ALL, u[r], (lane + 1) & 31);
          }
        }
#pragma unroll
        for (int r = 0; r < width; r++) part[both ? warp : 0][strip + lane][r] = u[r];
      }
    }
#pragma unroll
    for (int a = 0; a < rows; a++) {
#pragma unroll
      for (int r = 0; r < width; r++) sum[a][r] += (double)y[a][r];
    }
    if (both) {
      __syncthreads();
      ColumnSums<width>(k, item, now, part, factored ? factor[turn] : NULL, 1);
    }
    now = next;
  }
#pragma unroll
  for (int a = 0; a < rows; a++) {
    const int at   = a * THREADS + threadIdx.x;
    double    norm = 0;

#pragma unroll
    for (int c = 0; factored && c < dim; c++) norm += 0.25 * (double)x[a][c] * (double)x[a][c];
    const gram_scalar f = factored ? Exp2NegNorm(norm) : gram_scalar(1);
#pragma unroll
    for (int r = 0; r < width; r++) {
      if (at < item.n_rows)
        k.row_sums[item.sum + (size_t)at * width + r] = factored ? sum[a][r] * (double)f : sum[a][r];
    }
  }
}

/* ---- values, any number of coordinates: blocks of 16 WIDE_ROWS rows and 32 columns, 16 x 8 threads */

#define WIDE_DIMS 16 /* coordinates at once in shared memory */

__host__ __device__ constexpr int WideRows(int width) { return narrow && width == 1 ? 8 : 4; }

template <GramRadial type, int width, bool both>
__global__ void __launch_bounds__(THREADS) TileWide(GramWork k)
{
  constexpr int          rows = WideRows(width), strip = 16 * rows;
  __shared__ gram_scalar xs[WIDE_DIMS][strip], zs[WIDE_DIMS][32], vs[32][width],
      part[both ? WARPS : 1][32][width];
  const GramItem    item   = k.items[blockIdx.x];
  const double     *centre = k.centres + (size_t)item.centre * k.dim;
  const gram_scalar beta   = (gram_scalar)k.beta;
  const int         tx = threadIdx.x & 7, ty = threadIdx.x >> 3, warp = threadIdx.x >> 5;
  bool              held = false; /* rows, when all their coordinates fit */
  gram_scalar       w[rows][width];
  double            sum[rows][width];

#pragma unroll
  for (int a = 0; a < rows; a++) {
    const int at = ty * rows + a, i = item.row + at;

#pragma unroll
    for (int r = 0; r < width; r++) {
      sum[a][r] = 0;
      w[a][r]   = both && at < item.n_rows && r < k.width ? (gram_scalar)k.w[(size_t)i * k.q + k.r0 + r]
                                                          : (gram_scalar)0;
    }
  }
  for (Walk now = WalkBegin(k, item); now.n; now = WalkNext(k, item, now)) {
    const GramPiece &piece = k.pieces[now.piece];
    gram_scalar      y[rows][width];

#pragma unroll
    for (int a = 0; a < rows; a++) {
#pragma unroll
      for (int r = 0; r < width; r++) y[a][r] = 0;
    }
    for (int j0 = 0; j0 < now.n; j0 += 32) {
      const int   first = piece.col + now.at + j0, n = min(32, now.n - j0);
      gram_scalar s[rows][4], u[4][width];

#pragma unroll
      for (int a = 0; a < rows; a++) {
#pragma unroll
        for (int b = 0; b < 4; b++) s[a][b] = positive;
      }
      for (int c0 = 0; c0 < k.dim; c0 += WIDE_DIMS) {
        const int dims = min(WIDE_DIMS, k.dim - c0);

        __syncthreads();
        for (int e = threadIdx.x; (k.dim > WIDE_DIMS || !held) && e < dims * strip; e += THREADS) {
          const int c = e / strip, at = e % strip;

          xs[c][at] =
              (gram_scalar)(k.x[(c0 + c) * k.ldx + item.row + min(at, item.n_rows - 1)] - centre[c0 + c]);
        }
        for (int e = threadIdx.x; e < dims * 32; e += THREADS) {
          const int c = e / 32, j = e % 32;

          zs[c][j] = (gram_scalar)(k.z[(c0 + c) * k.ldz + first + min(j, n - 1)] - centre[c0 + c]);
        }
        for (int e = threadIdx.x; c0 == 0 && e < 32 * width; e += THREADS) {
          const int j = e / width, r = e % width;

          vs[j][r] =
              j < n && r < k.width ? (gram_scalar)k.v[(size_t)(first + j) * k.q + k.r0 + r] : (gram_scalar)0;
        }
        held = true;
        __syncthreads();
#pragma unroll 4
        for (int c = 0; c < dims; c++) {
          gram_scalar x[rows], z[4];

#pragma unroll
          for (int a = 0; a < rows; a++) x[a] = xs[c][ty * rows + a];
#pragma unroll
          for (int b = 0; b < 4; b++) z[b] = zs[c][tx * 4 + b];
#pragma unroll
          for (int a = 0; a < rows; a++) {
#pragma unroll
            for (int b = 0; b < 4; b++) s[a][b] = fma(x[a] - z[b], x[a] - z[b], s[a][b]);
          }
        }
      }
#pragma unroll
      for (int b = 0; b < 4; b++) {
#pragma unroll
        for (int r = 0; r < width; r++) u[b][r] = 0;
#pragma unroll
        for (int a = 0; a < rows; a++) {
          const gram_scalar p = RadialEval<false>(type, s[a][b], beta);

#pragma unroll
          for (int r = 0; r < width; r++) {
            y[a][r] = fma(p, vs[tx * 4 + b][r], y[a][r]);
            if (both) u[b][r] = fma(p, w[a][r], u[b][r]);
          }
        }
      }
      if (both) {
#pragma unroll
        for (int b = 0; b < 4; b++) {
#pragma unroll
          for (int r = 0; r < width; r++) {
            u[b][r] += __shfl_xor_sync(ALL, u[b][r], 8);
            u[b][r] += __shfl_xor_sync(ALL, u[b][r], 16);
            if ((ty & 3) == 0) part[both ? warp : 0][tx * 4 + b][r] = u[b][r];
          }
        }
        __syncthreads();
        for (int e = threadIdx.x; piece.sum >= 0 && e < n * width; e += THREADS) {
          double total = 0;

          for (int o = 0; o < WARPS; o++) total += (double)part[both ? o : 0][e / width][e % width];
          k.col_sums[piece.sum + item.strip * piece.stride + (size_t)(now.at + j0) * width + e] = total;
        }
      }
    }
#pragma unroll
    for (int a = 0; a < rows; a++) {
#pragma unroll
      for (int r = 0; r < width; r++) sum[a][r] += (double)y[a][r];
    }
  }
#pragma unroll
  for (int a = 0; a < rows; a++) {
#pragma unroll
    for (int r = 0; r < width; r++) {
      double total = sum[a][r];

      total += __shfl_xor_sync(ALL, total, 1);
      total += __shfl_xor_sync(ALL, total, 2);
      total += __shfl_xor_sync(ALL, total, 4);
      if (tx == 0 && ty * rows + a < item.n_rows)
        k.row_sums[item.sum + (size_t)(ty * rows + a) * width + r] = total;
    }
  }
}

/* ---- values and gradients, one right-hand side; a point carries 1 + dim numbers, the value first */

#define DERIVATIVE_ROWS 2 /* rows a thread holds */

/* number p of point i of a panel of parts; a gradient counts in the profile's unit */
__device__ __forceinline__ gram_scalar Number(const GramWork &k, const double *v, int part, int i, int p)
{
  const bool has_value = part & 1, has_gradient = part & 2;
  const int  size = has_value + (has_gradient ? k.dim : 0);

  if (p ? !has_gradient : !has_value) return 0;
  return (gram_scalar)(v[((size_t)i * size + p - !has_value) * k.q + k.r0] * (p ? k.unit : 1));
}

template <int dim>
__device__ __forceinline__ void StageDerivatives(const GramWork &k, const double *centre, const Walk &walk,
                                                 bool both, Record<2 * dim + 1> *columns)
{
  const int           lane = threadIdx.x & 31, j = k.pieces[walk.piece].col + walk.at + (int)threadIdx.x;
  Record<2 * dim + 1> record;

#pragma unroll
  for (int c = 0; c < record.size; c++) record.a[c] = 0;
  if ((int)threadIdx.x < walk.n) {
#pragma unroll
    for (int c = 0; c < dim; c++) record.a[c] = (gram_scalar)(k.z[c * k.ldz + j] - centre[c]);
#pragma unroll
    for (int p = 0; p <= dim; p++) record.a[dim + p] = Number(k, k.v, k.cols, j, p);
  }
  if (both) {
    Record<2 *dim + 1> *strip = columns + 2 * (threadIdx.x - lane) + lane;

    strip[0] = strip[32] = record;
  } else columns[threadIdx.x] = record;
}

/* y += B v for one pair, and u += B' w */
template <GramRadial type, int dim, bool both>
__device__ __forceinline__ void Block(const gram_scalar *x, const gram_scalar *z, const gram_scalar *v,
                                      gram_scalar *y, const gram_scalar *w, gram_scalar *u, gram_scalar beta)
{
  gram_scalar d[dim], s = positive, g = 0, h = 0, to_x, to_z;

#pragma unroll
  for (int c = 0; c < dim; c++) {
    d[c] = x[c] - z[c];
    s    = fma(d[c], d[c], s);
    g    = fma(d[c], v[1 + c], g);
    if (both) h = fma(d[c], w[1 + c], h);
  }
  const GramJet jet = RadialJet<false>(type, s, beta);

  y[0] += jet.phi * v[0] - jet.first * g;
  to_x = jet.first * v[0] - jet.second * g;
#pragma unroll
  for (int c = 0; c < dim; c++) y[1 + c] += d[c] * to_x - jet.first * v[1 + c];
  if (!both) return;
  u[0] += jet.phi * w[0] + jet.first * h;
  to_z = jet.first * w[0] + jet.second * h;
#pragma unroll
  for (int c = 0; c < dim; c++) u[1 + c] -= d[c] * to_z + jet.first * w[1 + c];
}

template <GramRadial type, int dim, bool both>
__global__ void __launch_bounds__(THREADS) TileDerivatives(GramWork k)
{
  constexpr int numbers = 1 + dim;
  __shared__ Record<2 * dim + 1> columns[2][both ? 2 * COLUMNS : COLUMNS];
  __shared__ gram_scalar         part[both ? WARPS : 1][COLUMNS][numbers];
  const GramItem                 item   = k.items[blockIdx.x];
  const double                  *centre = k.centres + (size_t)item.centre * dim;
  const gram_scalar              beta   = (gram_scalar)k.beta;
  const int                      lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  gram_scalar                    x[DERIVATIVE_ROWS][dim], w[DERIVATIVE_ROWS][numbers];
  double                         sum[DERIVATIVE_ROWS][numbers];
  Walk                           now = WalkBegin(k, item);

#pragma unroll
  for (int a = 0; a < DERIVATIVE_ROWS; a++) {
    const int at = a * THREADS + threadIdx.x, i = item.row + min(at, item.n_rows - 1);

#pragma unroll
    for (int c = 0; c < dim; c++) x[a][c] = (gram_scalar)(k.x[c * k.ldx + i] - centre[c]);
#pragma unroll
    for (int p = 0; p <= dim; p++) {
      sum[a][p] = 0;
      w[a][p]   = both && at < item.n_rows ? Number(k, k.w, k.rows, i, p) : (gram_scalar)0;
    }
  }
  StageDerivatives<dim>(k, centre, now, both, columns[0]);
  for (int turn = 0; now.n; turn ^= 1) {
    const Walk  next = WalkNext(k, item, now);
    gram_scalar y[DERIVATIVE_ROWS][numbers];

    __syncthreads();
    if (next.n) StageDerivatives<dim>(k, centre, next, both, columns[turn ^ 1]);
#pragma unroll
    for (int a = 0; a < DERIVATIVE_ROWS; a++) {
#pragma unroll
      for (int p = 0; p < numbers; p++) y[a][p] = 0;
    }
    if (!both) {
#pragma unroll 2
      for (int j = 0; j < now.n; j++) {
        const Record<2 *dim + 1> column = columns[turn][j];

#pragma unroll
        for (int a = 0; a < DERIVATIVE_ROWS; a++)
          Block<type, dim, false>(x[a], column.a, column.a + dim, y[a], w[a], NULL, beta);
      }
    } else {
      for (int strip = 0; strip < now.n; strip += 32) {
        gram_scalar u[numbers];

#pragma unroll
        for (int p = 0; p < numbers; p++) u[p] = 0;
#pragma unroll 2
        for (int s = 0; s < 32; s++) {
          const Record<2 *dim + 1> column = columns[turn][2 * strip + lane + s];

#pragma unroll
          for (int a = 0; a < DERIVATIVE_ROWS; a++)
            Block<type, dim, true>(x[a], column.a, column.a + dim, y[a], w[a], u, beta);
#pragma unroll
          for (int p = 0; p < numbers; p++) u[p] = __shfl_sync(ALL, u[p], (lane + 1) & 31);
        }
#pragma unroll
        for (int p = 0; p < numbers; p++) part[both ? warp : 0][strip + lane][p] = u[p];
      }
    }
#pragma unroll
    for (int a = 0; a < DERIVATIVE_ROWS; a++) {
#pragma unroll
      for (int p = 0; p < numbers; p++) sum[a][p] += (double)y[a][p];
    }
    if (both) {
      __syncthreads();
      ColumnSums<numbers>(k, item, now, part, NULL, 1);
    }
    now = next;
  }
#pragma unroll
  for (int a = 0; a < DERIVATIVE_ROWS; a++) {
    const int at = a * THREADS + threadIdx.x;

    if (at >= item.n_rows) continue;
#pragma unroll
    for (int p = 0; p < numbers; p++) k.row_sums[item.sum + (size_t)at * numbers + p] = sum[a][p];
  }
}

/* any dim up to GRAM_CUDA_DIM: a thread keeps the 1 + dim sums of its row in its own memory, y += B v alone */

#define DERIVATIVE_COLUMNS 8 /* columns at once in shared memory */

template <GramRadial type> __global__ void __launch_bounds__(THREADS) TileDerivativesWide(GramWork k)
{
  __shared__ gram_scalar zs[DERIVATIVE_COLUMNS][GRAM_CUDA_DIM], vs[DERIVATIVE_COLUMNS][1 + GRAM_CUDA_DIM];
  const GramItem         item    = k.items[blockIdx.x];
  const double          *centre  = k.centres + (size_t)item.centre * k.dim;
  const int              numbers = 1 + k.dim, i = item.row + min((int)threadIdx.x, item.n_rows - 1);
  double                *sums = k.row_sums + item.sum + (size_t)threadIdx.x * numbers;
  gram_scalar            x[GRAM_CUDA_DIM], y[1 + GRAM_CUDA_DIM];
  const bool             real = (int)threadIdx.x < item.n_rows;
  const gram_scalar      beta = (gram_scalar)k.beta;

  for (int c = 0; c < k.dim; c++) x[c] = (gram_scalar)(k.x[c * k.ldx + i] - centre[c]);
  for (int p = 0; real && p < numbers; p++) sums[p] = 0;
  for (Walk now = WalkBegin(k, item); now.n; now = WalkNext(k, item, now)) {
    for (int p = 0; p < numbers; p++) y[p] = 0;
    for (int j0 = 0; j0 < now.n; j0 += DERIVATIVE_COLUMNS) {
      const int first = k.pieces[now.piece].col + now.at + j0, n = min(DERIVATIVE_COLUMNS, now.n - j0);

      __syncthreads();
      for (int e = threadIdx.x; e < n * k.dim; e += THREADS)
        zs[e % n][e / n] = (gram_scalar)(k.z[(e / n) * k.ldz + first + e % n] - centre[e / n]);
      for (int e = threadIdx.x; e < n * numbers; e += THREADS)
        vs[e / numbers][e % numbers] = Number(k, k.v, k.cols, first + e / numbers, e % numbers);
      __syncthreads();
      for (int j = 0; j < n; j++) {
        gram_scalar s = positive, g = 0, to_x;

        for (int c = 0; c < k.dim; c++) {
          const gram_scalar d = x[c] - zs[j][c];

          s = fma(d, d, s);
          g = fma(d, vs[j][1 + c], g);
        }
        const GramJet jet = RadialJet<false>(type, s, beta);

        y[0] += jet.phi * vs[j][0] - jet.first * g;
        to_x = jet.first * vs[j][0] - jet.second * g;
        for (int c = 0; c < k.dim; c++) y[1 + c] += (x[c] - zs[j][c]) * to_x - jet.first * vs[j][1 + c];
      }
    }
    for (int p = 0; real && p < numbers; p++) sums[p] += (double)y[p];
  }
}

#if TILE_TENSOR
/*
  ---- Gaussians of up to 3 coordinates on tensor cores

  mma.m16n8k16 multiplies 16 rows, 16 slots and 8 columns of halves into floats. Lane 4 g + t holds slots 2t, 2t + 1, 2t + 8 and
  2t + 9 of rows g and g + 8 and of column g. Coordinate t of 2 u and of y, each split into halves h + l, fills them as

      rows     h h  l l
      columns  h l  h l      h h' + h l' + l h' + l l', 22 bits of the product

  and t = 3 is empty, or carries the norm of the column in three pieces. What comes out, element (g, 2t), (g, 2t + 1),
  (g + 8, 2t), (g + 8, 2t + 1), is the exponent of 16 x 8 entries.
*/

  #if !defined(GRAM_CUDA_HOST)
__device__ __forceinline__ void GramMma16816(float d[4], const unsigned a[4], unsigned b0, unsigned b1,
                                             const float c[4])
{
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
               "{%10,%11,%12,%13};"
               : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(c[0]), "f"(c[1]),
                 "f"(c[2]), "f"(c[3]));
}
  #endif

__device__ __forceinline__ unsigned Pair(float low, float high)
{
  const __half2 h = __floats2half2_rn(low, high);

  return *reinterpret_cast<const unsigned *>(&h);
}

/* x to 11 bits */
__device__ __forceinline__ float Half(float x) { return __half2float(__float2half_rn(x)); }

/* the four slots of a coordinate of a column; twice the same, but in registers of their own, as mma wants them */
__device__ __forceinline__ uint2 Halves(float y)
{
  const unsigned halves = Pair(Half(y), y - Half(y));

  return make_uint2(halves, halves);
}

/* 2^e, |e| <= 1000 */
__device__ __forceinline__ double PowerOf2(int e) { return __hiloint2double((1023 + e) << 20, 0); }

/* x < 2^e, x >= 0; within +-900, where it makes no difference to float */
__device__ __forceinline__ int ExponentOf(double x)
{
  return max(-900, min((__double2hiint(x) >> 20 & 2047) - 1022, 900));
}

/* rows of the strip, n of them: [row] 2 u and 2^-|u|^2; behind the last stands the last again */
template <int threads>
__device__ __forceinline__ void StageRows(const GramWork &k, const GramItem &item, const double *centre,
                                          int n, float4 *rows)
{
  for (int at = threadIdx.x; at < n; at += threads) {
    const int i    = item.row + min(at, item.n_rows - 1);
    double    norm = 0;
    float     x[3];

  #pragma unroll
    for (int c = 0; c < 3; c++) {
      const double u = c < k.dim ? k.x[c * k.ldx + i] - centre[c] : 0;

      norm += u * u;
      x[c] = (float)(2 * u);
    }
    rows[at] = make_float4(x[0], x[1], x[2], Exp2NegNorm(norm));
  }
}

/* of rows at and at + 8 */
__device__ __forceinline__ void RowFragment(const float4 *rows, int at, bool norms, unsigned fragment[4])
{
  const int t = threadIdx.x & 3;

  #pragma unroll
  for (int half = 0; half < 2; half++) {
    const float4 row = rows[at + 8 * half];
    const float  x   = t == 0 ? row.x : t == 1 ? row.y : row.z;

    fragment[half]     = t < 3 ? Pair(Half(x), Half(x)) : norms ? Pair(1, 1) : 0;
    fragment[half + 2] = t < 3 ? Pair(x - Half(x), x - Half(x)) : norms ? Pair(1, 0) : 0;
  }
}

/* offsets y [3] of the column of this thread; false behind the last, where they are 0 */
__device__ __forceinline__ bool ColumnOffsets(const GramWork &k, const double *centre, const Walk &walk,
                                              float y[3], double *norm)
{
  const int j = k.pieces[walk.piece].col + walk.at + (int)threadIdx.x;

  *norm = 0;
  #pragma unroll
  for (int c = 0; c < 3; c++) {
    y[c] = 0;
    if (c < k.dim && (int)threadIdx.x < walk.n) {
      const double offset = k.z[c * k.ldz + j] - centre[c];

      y[c] = (float)offset;
      *norm += offset * offset;
    }
  }
  return (int)threadIdx.x < walk.n;
}

  #define TENSOR_TILES 8

/* One right-hand side; a warp holds 16 tiles rows, 8 columns at a time. v is scaled up to 2^60, since the factors of columns
   go down to 2^-120 and, times the entry 2^(2 u.y), up to 2^6 only; w is scaled up to 1, since entries reach 2^60. */
template <bool both> __global__ void __launch_bounds__(THREADS) TileTensor(GramWork k)
{
  constexpr int     tiles = TENSOR_TILES, share = both ? 4 : 5;
  __shared__ uint2  columns[2][COLUMNS * 4]; /* [column][t]: the halves of coordinate t, twice */
  __shared__ float2 vs[2][COLUMNS / 2];
  __shared__ float  factor[2][COLUMNS], part[both ? WARPS : 1][COLUMNS][1];
  __shared__ float4 rows[16 * tiles * WARPS];
  const GramItem    item   = k.items[blockIdx.x];
  const double     *centre = k.centres + (size_t)item.centre * k.dim;
  const int         lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  const float       zero[4]    = {0, 0, 0, 0};
  const int         v_exponent = ExponentOf(k.v_largest[k.r0]) - 60,
            w_exponent         = both ? ExponentOf(k.w_largest[k.r0]) : 0;
  const double v_scale = PowerOf2(-v_exponent), w_scale = PowerOf2(-w_exponent);
  unsigned     x[tiles][4];
  float        w[tiles][2];
  double       sum[tiles][2];
  Walk         now = WalkBegin(k, item);

  const auto stage = [&](const Walk &walk, int turn) {
    float       y[3];
    double      norm;
    const bool  real = ColumnOffsets(k, centre, walk, y, &norm);
    const float f    = Exp2NegNorm(norm);

  #pragma unroll
    for (int c = 0; c < 3; c++) columns[turn][threadIdx.x * 4 + c] = Halves(y[c]);
    columns[turn][threadIdx.x * 4 + 3] = make_uint2(0, 0);
    factor[turn][threadIdx.x]          = f;
    reinterpret_cast<float *>(vs[turn])[threadIdx.x] =
        real ? (float)(k.v[(size_t)(k.pieces[walk.piece].col + walk.at + (int)threadIdx.x) * k.q + k.r0] *
                       v_scale) *
                   f
             : 0;
  };

  StageRows<THREADS>(k, item, centre, 16 * tiles * WARPS, rows);
  __syncthreads();
  #pragma unroll
  for (int m = 0; m < tiles; m++) {
    const int at = (warp * tiles + m) * 16 + g;

    RowFragment(rows, at, false, x[m]);
  #pragma unroll
    for (int half = 0; half < 2; half++) {
      sum[m][half] = 0;
      w[m][half]   = 0;
      if (both && at + 8 * half < item.n_rows)
        w[m][half] =
            (float)(k.w[(size_t)(item.row + at + 8 * half) * k.q + k.r0] * w_scale) * rows[at + 8 * half].w;
    }
  }
  stage(now, 0);
  for (int turn = 0; now.n; turn ^= 1) {
    const Walk next = WalkNext(k, item, now);
    float      y[tiles][2];

    __syncthreads();
    if (next.n) stage(next, turn ^ 1);
  #pragma unroll
    for (int m = 0; m < tiles; m++) y[m][0] = y[m][1] = 0;
  #pragma unroll 2
    for (int j = 0; j < (now.n + 15) / 16 * 2; j++) {
      const uint2  column = columns[turn][j * 32 + lane];
      const float2 v      = vs[turn][j * 4 + t];
      float        u0 = 0, u1 = 0;

  #pragma unroll
      for (int m = 0; m < tiles; m++) {
        float e[4];

        GramMma16816(e, x[m], column.x, column.y, zero);
  #pragma unroll
        for (int o = 0; o < 4; o++) e[o] = Spread(m * 4 + o, share) ? GramExp2Fma(e[o]) : GramEx2(e[o]);
        y[m][0] = fmaf(e[0], v.x, fmaf(e[1], v.y, y[m][0]));
        y[m][1] = fmaf(e[2], v.x, fmaf(e[3], v.y, y[m][1]));
        if (both) {
          u0 = fmaf(e[0], w[m][0], fmaf(e[2], w[m][1], u0));
          u1 = fmaf(e[1], w[m][0], fmaf(e[3], w[m][1], u1));
        }
      }
      if (both) { /* over g: first halve the columns, then add */
        float mine = g & 1 ? u1 : u0;

        mine += __shfl_xor_sync(ALL, g & 1 ? u0 : u1, 4);
        mine += __shfl_xor_sync(ALL, mine, 8);
        mine += __shfl_xor_sync(ALL, mine, 16);
        if (g < 2) part[both ? warp : 0][j * 8 + 2 * t + g][0] = mine;
      }
    }
  #pragma unroll
    for (int m = 0; m < tiles; m++) {
      sum[m][0] += (double)y[m][0];
      sum[m][1] += (double)y[m][1];
    }
    if (both) {
      __syncthreads();
      ColumnSums<1>(k, item, now, part, factor[turn], PowerOf2(w_exponent));
    }
    now = next;
  }
  #pragma unroll
  for (int m = 0; m < tiles; m++) {
  #pragma unroll
    for (int half = 0; half < 2; half++) {
      const int at    = (warp * tiles + m) * 16 + g + 8 * half;
      double    total = sum[m][half];

      total += __shfl_xor_sync(ALL, total, 1);
      total += __shfl_xor_sync(ALL, total, 2);
      if (t == 0 && at < item.n_rows)
        k.row_sums[item.sum + at] = total * (double)rows[at].w * PowerOf2(v_exponent);
    }
  }
}

  /*
  Panels of 8 eights right-hand sides. The exponent carries the norm of the column, P = 2^(bits + 2 u.y - |y|^2), bits those of the row and
  of the tile:
  below 2^15, since phi = P 2^-(bits + |u|^2) is at most 2^-tile_bits, and row_bits + |u|^2 at most 14. P and v are split into
  halves, and Ph Vh + Pl Vh + Ph Vl are products of tensor cores too: the 16 x 16 exponents that two products leave in a
  lane are, as they are, its fragment of rows for the next (T. Dao, FlashAttention-2, 2023). What P is above 1 it has to 22
  bits, what is below loses one for every halving; the plan sees to it that this is little.
*/
  #define PANEL_THREADS 256 /* they stage as many columns */
  #define PANEL_TILES   2   /* of 16 rows in a warp */
  #define PANEL_ROWS    (PANEL_TILES * 16 * PANEL_THREADS / 32)

template <int eights> __global__ void __launch_bounds__(PANEL_THREADS) TilePanel(GramWork k)
{
  constexpr int     share = 2, width = 8 * eights;
  __shared__ uint2  columns[PANEL_THREADS * 4]; /* [column][t] */
  __shared__ uint4  vs[PANEL_THREADS / 16][eights][32];
  __shared__ float4 rows[PANEL_ROWS];
  const GramItem    item   = k.items[blockIdx.x];
  const double     *centre = k.centres + (size_t)item.centre * k.dim;
  const int         lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  unsigned          x[PANEL_TILES][4];
  float             y[PANEL_TILES][eights][4];
  double            sum[PANEL_TILES][eights][4];

  StageRows<PANEL_THREADS>(k, item, centre, PANEL_ROWS, rows);
  __syncthreads();
  #pragma unroll
  for (int m = 0; m < PANEL_TILES; m++) {
    RowFragment(rows, (warp * PANEL_TILES + m) * 16 + g, true, x[m]);
  #pragma unroll
    for (int b = 0; b < eights; b++) {
  #pragma unroll
      for (int o = 0; o < 4; o++) sum[m][b][o] = y[m][b][o] = 0;
    }
  }
  for (Walk now = WalkBegin<PANEL_THREADS>(k, item); now.n; now = WalkNext<PANEL_THREADS>(k, item, now)) {
    const GramPiece &piece  = k.pieces[now.piece];
    const uint4     *packed = k.panel + (size_t)(piece.panel + now.at / 16) * eights * 32;
    const float     *scale  = k.panel_scale + (size_t)piece.scale * width;
    const float      bits = (float)(item.row_bits + piece.tile_bits), sum_bits[4] = {bits, bits, bits, bits};
    float            offset[3];
    double           norm;

    __syncthreads();
    if (!ColumnOffsets(k, centre, now, offset, &norm)) norm = 1000; /* behind the last P is 0 */
  #pragma unroll
    for (int c = 0; c < 3; c++) columns[threadIdx.x * 4 + c] = Halves(offset[c]);
    const float high = Half((float)-norm), middle = Half((float)(-norm - high)),
                low              = (float)(-norm - high - middle);
    columns[threadIdx.x * 4 + 3] = make_uint2(Pair(high, middle), Pair(low, 0));
    for (int e = threadIdx.x; e < (now.n + 15) / 16 * eights * 32; e += PANEL_THREADS)
      (&vs[0][0][0])[e] = packed[e];
    __syncthreads();
  #pragma unroll 1
    for (int j = 0; j < (now.n + 15) / 16; j++) {
      const uint2 column0 = columns[j * 64 + lane], column1 = columns[j * 64 + 32 + lane];
      uint4       v[eights];

  #pragma unroll
      for (int b = 0; b < eights; b++) v[b] = vs[j][b][lane];
  #pragma unroll
      for (int m = 0; m < PANEL_TILES; m++) {
        float    e[8];
        unsigned high_part[4], low_part[4];

        GramMma16816(e, x[m], column0.x, column0.y, sum_bits);
        GramMma16816(e + 4, x[m], column1.x, column1.y, sum_bits);
  #pragma unroll
        for (int o = 0; o < 8; o++)
          e[o] = Spread(m * 8 + o, share) ? GramExp2Fma(fmaxf(e[o], -126.0f)) : GramEx2(e[o]);
  #pragma unroll
        for (int o = 0; o < 4; o++) { /* cut to 11 bits: a half, exactly, from 2^-14 on */
          const float h0 = __int_as_float(__float_as_int(e[2 * o]) & (int)0xffffe000),
                      h1 = __int_as_float(__float_as_int(e[2 * o + 1]) & (int)0xffffe000);

          high_part[o] = Pair(h0, h1);
          low_part[o]  = Pair(e[2 * o] - h0, e[2 * o + 1] - h1);
        }
  #pragma unroll
        for (int b = 0; b < eights; b++) {
          GramMma16816(y[m][b], high_part, v[b].x, v[b].y, y[m][b]);
          GramMma16816(y[m][b], low_part, v[b].x, v[b].y, y[m][b]);
          GramMma16816(y[m][b], high_part, v[b].z, v[b].w, y[m][b]);
        }
      }
    }
    const double back_bits = PowerOf2(-item.row_bits - piece.tile_bits);
  #pragma unroll
    for (int b = 0; b < eights; b++) {
  #pragma unroll
      for (int o = 0; o < 4; o++) {
        const double back = back_bits * (double)scale[b * 8 + 2 * t + (o & 1)];

  #pragma unroll
        for (int m = 0; m < PANEL_TILES; m++) {
          sum[m][b][o] += (double)y[m][b][o] * back;
          y[m][b][o] = 0;
        }
      }
    }
  }
  #pragma unroll
  for (int m = 0; m < PANEL_TILES; m++) {
  #pragma unroll
    for (int o = 0; o < 4; o++) {
      const int at = (warp * PANEL_TILES + m) * 16 + g + 8 * (o >> 1);

  #pragma unroll
      for (int b = 0; b < eights; b++) {
        if (at < item.n_rows)
          k.row_sums[item.sum + (size_t)at * width + b * 8 + 2 * t + (o & 1)] =
              sum[m][b][o] * (double)rows[at].w;
      }
    }
  }
}

/* v of a block of columns as fragments [column / 16][eights][lane]: the two high halves, the two low ones. Each right-hand
   side is scaled by a power of two so that its largest number is just below 2^14. */
template <int eights> __global__ void __launch_bounds__(THREADS) TilePack(GramWork k)
{
  constexpr int    width = 8 * eights, groups = THREADS / width;
  __shared__ float most[groups][width], scale[width];
  const GramPack   pack = k.packs[blockIdx.x];
  const int        r = threadIdx.x % width, group = threadIdx.x / width;
  uint4           *packed  = k.panel + (size_t)pack.panel * eights * 32;
  float            largest = 0;

  for (int j = group; r < k.width && j < pack.n; j += groups)
    largest = fmaxf(largest, fabsf((float)k.v[(size_t)(pack.first + j) * k.q + k.r0 + r]));
  most[group][r] = largest;
  __syncthreads();
  if (group == 0) {
    int exponent = 0;

    for (int o = 1; o < groups; o++) largest = fmaxf(largest, most[o][r]);
    if (largest > 0 && largest < INFINITY) (void)frexpf(largest, &exponent);
    exponent                                      = min(max(14 - exponent, -114), 126);
    scale[r]                                      = ldexpf(1, exponent);
    k.panel_scale[(size_t)blockIdx.x * width + r] = ldexpf(1, -exponent);
  }
  __syncthreads();
  for (int e = threadIdx.x; e < (pack.n + 15) / 16 * eights * 32; e += THREADS) {
    const int lane = e & 31, b = (e >> 5) % eights, j0 = (e >> 5) / eights * 16 + (lane & 3) * 2,
              column = b * 8 + (lane >> 2);
    float high[4], low[4];

  #pragma unroll
    for (int o = 0; o < 4; o++) {
      const int   j = j0 + (o & 1) + (o >> 1) * 8;
      const float v = j < pack.n && column < k.width
                          ? (float)k.v[(size_t)(pack.first + j) * k.q + k.r0 + column] * scale[column]
                          : 0;

      high[o] = Half(v);
      low[o]  = v - high[o];
    }
    packed[e] = make_uint4(Pair(high[0], high[1]), Pair(high[2], high[3]), Pair(low[0], low[1]),
                           Pair(low[2], low[3]));
  }
}
#endif

/* ---- what there is to pick */

typedef void (*Launch)(const GramWork *, int, cudaStream_t);

template <GramRadial type, int dim, int width, bool both, bool factored>
void LaunchValues(const GramWork *work, int n, cudaStream_t stream)
{
  GRAM_LAUNCH((TileValues<type, dim, width, both, factored>), n, THREADS, stream, *work);
}

template <GramRadial type, int width, bool both>
void LaunchWide(const GramWork *work, int n, cudaStream_t stream)
{
  GRAM_LAUNCH((TileWide<type, width, both>), n, THREADS, stream, *work);
}

template <GramRadial type, int dim, bool both>
void LaunchDerivatives(const GramWork *work, int n, cudaStream_t stream)
{
  GRAM_LAUNCH((TileDerivatives<type, dim, both>), n, THREADS, stream, *work);
}

template <GramRadial type> void LaunchDerivativesWide(const GramWork *work, int n, cudaStream_t stream)
{
  GRAM_LAUNCH((TileDerivativesWide<type>), n, THREADS, stream, *work);
}

/* right-hand sides of one launch; in double what stands twice in shared memory has room for two */
constexpr int WidthOf(int q, bool both) { return q == 1 ? 1 : narrow || !both ? 4 : 2; }

template <GramRadial type, int dim, bool both, bool factored> GramTileKernel PickValues(int q)
{
  constexpr int width = WidthOf(2, both);

  if (q == 1)
    return {LaunchValues<type, dim, 1, both, factored>, THREADS * RowsOf(1), COLUMNS, 1, both, 0, NULL};
  return {
      LaunchValues<type, dim, width, both, factored>, THREADS * RowsOf(width), COLUMNS, width, both, 0, NULL};
}

template <GramRadial type, bool both> GramTileKernel PickWide(int q)
{
  constexpr int width = WidthOf(2, both);

  if (q == 1) return {LaunchWide<type, 1, both>, 16 * WideRows(1), COLUMNS, 1, both, 0, NULL};
  return {LaunchWide<type, width, both>, 16 * WideRows(width), COLUMNS, width, both, 0, NULL};
}

template <GramRadial type, bool both> GramTileKernel PickType(int dim, bool derivatives, int q)
{
  if (derivatives) {
    switch (dim) {
    case 1: return {LaunchDerivatives<type, 1, both>, THREADS * DERIVATIVE_ROWS, COLUMNS, 1, both, 0, NULL};
    case 2: return {LaunchDerivatives<type, 2, both>, THREADS * DERIVATIVE_ROWS, COLUMNS, 1, both, 0, NULL};
    case 3: return {LaunchDerivatives<type, 3, both>, THREADS * DERIVATIVE_ROWS, COLUMNS, 1, both, 0, NULL};
    default: return {LaunchDerivativesWide<type>, THREADS, COLUMNS, 1, 0, 0, NULL};
    }
  }
  switch (dim) {
  case 1: return PickValues<type, 1, both, false>(q);
  case 2: return PickValues<type, 2, both, false>(q);
  case 3: return PickValues<type, 3, both, false>(q);
  default: return PickWide<type, both>(q);
  }
}

#if TILE_TENSOR
void LaunchTensor(const GramWork *work, int n, cudaStream_t stream)
{
  GRAM_LAUNCH(TileTensor<false>, n, THREADS, stream, *work);
}

void LaunchTensorBoth(const GramWork *work, int n, cudaStream_t stream)
{
  GRAM_LAUNCH(TileTensor<true>, n, THREADS, stream, *work);
}

template <int eights> void LaunchPanel(const GramWork *work, int n, cudaStream_t stream)
{
  GRAM_LAUNCH(TilePanel<eights>, n, PANEL_THREADS, stream, *work);
}

template <int eights> void LaunchPack(const GramWork *work, int n, cudaStream_t stream)
{
  GRAM_LAUNCH(TilePack<eights>, n, THREADS, stream, *work);
}

/* Two columns one after the other cost less than a panel of eight. Panels have no column sums: their products on
   tensor cores, not the entries, set the pace, and would double. */
template <bool both> GramTileKernel PickFactored(int, int q)
{
  if (q > 8) return {LaunchPanel<2>, PANEL_ROWS, PANEL_THREADS, 16, 0, 0, LaunchPack<2>};
  if (q > 2) return {LaunchPanel<1>, PANEL_ROWS, PANEL_THREADS, 8, 0, 0, LaunchPack<1>};
  return {both ? LaunchTensorBoth : LaunchTensor, 16 * TENSOR_TILES * WARPS, COLUMNS, 1, both, 1, NULL};
}
#else
template <bool both> GramTileKernel PickFactored(int dim, int q)
{
  switch (dim) {
  case 1: return PickValues<GRAM_RADIAL_GAUSSIAN, 1, both, true>(q);
  case 2: return PickValues<GRAM_RADIAL_GAUSSIAN, 2, both, true>(q);
  default: return PickValues<GRAM_RADIAL_GAUSSIAN, 3, both, true>(q);
  }
}
#endif

GramTileKernel Pick(GramTier tier, GramRadial type, int dim, bool derivatives, int q, bool both)
{
  const GramTileKernel none = {NULL, 0, 0, 0, 0, 0, NULL};

  if (tier == GRAM_FACTORED) {
    if (type != GRAM_RADIAL_GAUSSIAN || dim > 3 || derivatives) return none;
    return both ? PickFactored<true>(dim, q) : PickFactored<false>(dim, q);
  }
#define TILE_CASE(UPPER, ...)                                              \
  case GRAM_RADIAL_##UPPER:                                                \
    return both ? PickType<GRAM_RADIAL_##UPPER, true>(dim, derivatives, q) \
                : PickType<GRAM_RADIAL_##UPPER, false>(dim, derivatives, q);
  switch (type) {
    GRAM_RADIAL_LIST(TILE_CASE)
  default: return none;
  }
}

} // namespace

extern const GramTileCudaCode TILE_CODE = {Pick};
