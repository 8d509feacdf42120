#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include <petscsf.h>
#include <petscblaslapack.h>

#include "memory.h"
#include "vecchia.h"

#define LEVELS    40 /* of the voxel hierarchy */
#define HASH_SEED 77
#define LEAF      16            /* points of a leaf of the search tree, at most */
#define LATEST    PETSC_MAX_INT /* a position after all others */
#define FEW       48            /* rows of S up to which all of it is computed */
#define STRIP     32            /* rows of G F that are written at once, by columns */

struct _p_GramVecchia {
  GramPoints points; /* borrowed */
  MPI_Comm   comm;
  PetscReal  scale[GRAM_MAX_DIM];
  PetscInt   dim, n, n_local, start;
  PetscInt  *order, *position; /* [n] and its inverse */
  PetscInt   m;
  PetscInt  *columns; /* [n_local][m], of each row the first min(m, position) */
};

static PetscLogEvent GRAM_VoxelOrder, GRAM_Neighbours, GRAM_Vecchia;

static PetscErrorCode RegisterEvents(void)
{
  PetscFunctionBegin;
  if (GRAM_VoxelOrder) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscLogEventRegister("GramVoxelOrder", MAT_CLASSID, &GRAM_VoxelOrder));
  PetscCall(PetscLogEventRegister("GramNeighbours", MAT_CLASSID, &GRAM_Neighbours));
  PetscCall(PetscLogEventRegister("GramVecchia", MAT_CLASSID, &GRAM_Vecchia));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- the order */

typedef struct {
  uint64_t hash;
  PetscInt level, index;
} Ranked;

static int RankedCompare(const void *a_any, const void *b_any)
{
  const Ranked *a = (const Ranked *)a_any, *b = (const Ranked *)b_any;

  if (a->level != b->level) return a->level < b->level ? -1 : 1;
  return a->hash < b->hash ? -1 : a->hash > b->hash;
}

/* The cube of the grid: its corner, and cells of the finest level per unit length (0: all points coincide). */
typedef struct {
  PetscReal lower[GRAM_MAX_DIM], per_unit;
} Cube;

static Cube CubeAround(PetscInt dim, PetscInt n, const PetscReal *x)
{
  Cube      cube;
  PetscReal width = 0;

  for (PetscInt c = 0; c < dim; c++) {
    PetscReal upper = x[c];

    cube.lower[c] = x[c];
    for (PetscInt i = 1; i < n; i++) {
      cube.lower[c] = PetscMin(cube.lower[c], x[GramAt(i, dim, c)]);
      upper         = PetscMax(upper, x[GramAt(i, dim, c)]);
    }
    width = PetscMax(width, upper - cube.lower[c]);
  }
  cube.per_unit = width > 0 ? (PetscReal)((uint64_t)1 << (LEVELS - 1)) / (width * (1 + 1e-12)) : 0;
  return cube;
}

/* The points of upper cells go last: returns how many are in lower ones. */
static PetscInt Split(const Cube *cube, PetscInt dim, const PetscReal *x, PetscInt level, PetscInt axis,
                      PetscInt n, Ranked p[])
{
  PetscInt left = 0, right = n;

  while (left < right) {
    const uint64_t cell =
        (uint64_t)((x[GramAt(p[left].index, dim, axis)] - cube->lower[axis]) * cube->per_unit);

    if (cell >> (LEVELS - 1 - level) & 1) {
      const Ranked upper = p[--right];

      p[right] = p[left];
      p[left]  = upper;
    } else left++;
  }
  return left;
}

/* Halves of cells are descended depth first; the axes before axis are halved for this level already. */
PetscErrorCode GramVoxelOrder(PetscInt dim, PetscInt n, const PetscReal *x, PetscInt order[])
{
  typedef struct {
    PetscInt begin, end, level, axis;
  } Cell;
  Cube     cube;
  Ranked  *p;
  Cell    *stack;
  PetscInt top = 0;

  PetscFunctionBegin;
  if (!n) PetscFunctionReturn(PETSC_SUCCESS);
  cube = CubeAround(dim, n, x);
  PetscCall(PetscMalloc2(n, &p, (LEVELS - 1) * dim + 2, &stack));
  for (PetscInt i = 0; i < n; i++)
    p[i] = (Ranked){.hash = GramHash(HASH_SEED, (uint64_t)i), .level = LEVELS, .index = i};
  stack[top++] = (Cell){.begin = 0, .end = n, .level = 0, .axis = dim};
  while (top) {
    Cell     cell = stack[--top];
    PetscInt middle;

    if (cell.axis == dim || cell.end - cell.begin == 1) { /* a whole cell: who has the least hash? */
      Ranked *least = p + cell.begin;

      for (PetscInt k = cell.begin + 1; k < cell.end; k++) {
        if (p[k].hash < least->hash) least = p + k;
      }
      least->level = PetscMin(least->level, cell.level);
      if (cell.end - cell.begin == 1 || cell.level == LEVELS - 1 || !(cube.per_unit > 0)) continue;
      cell.level++;
      cell.axis = 0;
    }
    middle = cell.begin + Split(&cube, dim, x, cell.level, cell.axis, cell.end - cell.begin, p + cell.begin);
    cell.axis++;
    if (middle < cell.end) stack[top++] = (Cell){middle, cell.end, cell.level, cell.axis};
    if (middle > cell.begin) stack[top++] = (Cell){cell.begin, middle, cell.level, cell.axis};
  }
  qsort(p, (size_t)n, sizeof *p, RankedCompare);
  for (PetscInt k = 0; k < n; k++) order[k] = p[k].index;
  PetscCall(PetscFree2(p, stack));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- neighbours */

/*
  Points are sorted along a curve already, so the tree is there: node 1 is all of it, 2 k and 2 k + 1 are the halves
  of node k, and leaf b holds the points n b / n_leaves up to n (b + 1) / n_leaves. A packed Hilbert tree (I. Kamel,
  C. Faloutsos, VLDB 1994) without any sorting; first prunes what comes later than the point that asks.
*/
typedef struct {
  PetscInt  dim, n, n_leaves;
  PetscInt *first; /* [2 n_leaves] least position below a node */
  PetscReal
      *box; /* [n_leaves][dim][2][2] lower and upper corners of what is below, of both children together */
  PetscReal *x;        /* [n_leaves][dim][LEAF] coordinates */
  PetscInt  *position; /* [n_leaves][LEAF], LATEST where there is no point */
} Tree;

static PetscInt LeafBegin(const Tree *t, PetscInt leaf)
{
  return (PetscInt)((PetscInt64)t->n * leaf / t->n_leaves);
}

static PetscInt LeafOf(const Tree *t, PetscInt i)
{
  return (PetscInt)((((PetscInt64)i + 1) * t->n_leaves - 1) / t->n);
}

/* lower corner in coordinate c; the upper one is two numbers on */
static PetscReal *TreeBox(const Tree *t, PetscInt node, PetscInt c)
{
  return t->box + 4 * GramAt(node / 2, t->dim, c) + node % 2;
}

static void LeafFill(Tree *t, PetscInt leaf, const PetscReal *x, const PetscInt position[])
{
  const PetscInt node = t->n_leaves + leaf, begin = LeafBegin(t, leaf), n = LeafBegin(t, leaf + 1) - begin;

  t->first[node] = LATEST;
  for (PetscInt k = 0; k < LEAF; k++) {
    t->position[GramAt(leaf, LEAF, k)] = k < n ? position[begin + k] : LATEST;
    t->first[node]                     = PetscMin(t->first[node], t->position[GramAt(leaf, LEAF, k)]);
  }
  for (PetscInt c = 0; c < t->dim; c++) {
    PetscReal *held = t->x + GramAt(leaf, t->dim, c) * LEAF, *box = TreeBox(t, node, c);

    box[0] = PETSC_MAX_REAL;
    box[2] = -PETSC_MAX_REAL;
    for (PetscInt k = 0; k < n; k++) {
      held[k] = x[GramAt(begin + k, t->dim, c)];
      box[0]  = PetscMin(box[0], held[k]);
      box[2]  = PetscMax(box[2], held[k]);
    }
    for (PetscInt k = n; k < LEAF; k++) held[k] = 0;
  }
}

static PetscErrorCode TreeCreate(PetscInt dim, PetscInt n, const PetscReal *x, const PetscInt position[],
                                 Tree *t)
{
  PetscFunctionBegin;
  t->dim      = dim;
  t->n        = n;
  t->n_leaves = 1;
  while ((PetscInt64)t->n_leaves * LEAF < n) t->n_leaves *= 2;
  PetscCall(PetscMalloc2(2 * (size_t)t->n_leaves, &t->first, 4 * GramAt(t->n_leaves, dim, 0), &t->box));
  PetscCall(
      PetscMalloc2(GramAt(t->n_leaves, dim, 0) * LEAF, &t->x, GramAt(t->n_leaves, LEAF, 0), &t->position));
  for (PetscInt leaf = 0; leaf < t->n_leaves; leaf++) LeafFill(t, leaf, x, position);
  for (PetscInt node = t->n_leaves - 1; node; node--) {
    t->first[node] = PetscMin(t->first[2 * node], t->first[2 * node + 1]);
    for (PetscInt c = 0; c < dim; c++) {
      const PetscReal *below = TreeBox(t, 2 * node, c);
      PetscReal       *box   = TreeBox(t, node, c);

      box[0] = PetscMin(below[0], below[1]);
      box[2] = PetscMax(below[2], below[3]);
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode TreeDestroy(Tree *t)
{
  PetscFunctionBegin;
  PetscCall(PetscFree2(t->first, t->box));
  PetscCall(PetscFree2(t->x, t->position));
  PetscFunctionReturn(PETSC_SUCCESS);
}

typedef struct {
  PetscReal distance; /* squared */
  PetscInt  position;
} Candidate;

static inline PetscBool Nearer(Candidate a, Candidate b)
{
  return (PetscBool)(a.distance < b.distance || (a.distance == b.distance && a.position < b.position));
}

/* The m nearest so far: a heap with the farthest on top, full from the start (of candidates at infinity). */
typedef struct {
  PetscInt         position; /* of the point that asks: only earlier ones count */
  const PetscReal *x;
  PetscInt         m;
  Candidate       *heap; /* [m] */
} Query;

static void QueryOffer(Query *q, Candidate new)
{
  PetscInt k = 0;

  for (PetscInt child; (child = 2 * k + 1) < q->m; k = child) {
    if (child + 1 < q->m && Nearer(q->heap[child], q->heap[child + 1])) child++;
    if (!Nearer(new, q->heap[child])) break;
    q->heap[k] = q->heap[child];
  }
  q->heap[k] = new;
}

/* To the boxes of a node's children; rounded down, so that no leaf finds what is nearer than its box. */
static inline void BoxDistances(const Tree *t, PetscInt node, const PetscReal *restrict x,
                                PetscReal distance[2])
{
  const PetscReal *restrict box = TreeBox(t, 2 * node, 0);
  PetscReal sum[2]              = {0, 0};

  for (PetscInt c = 0; c < t->dim; c++, box += 4) {
    for (int k = 0; k < 2; k++) {
      const PetscReal below = box[k] - x[c], above = x[c] - box[2 + k];
      const PetscReal most = below > above ? below : above, d = most > 0. ? most : 0.;

      sum[k] += d * d;
    }
  }
  for (int k = 0; k < 2; k++) distance[k] = sum[k] * (1 - 4 * GRAM_MAX_DIM * PETSC_MACHINE_EPSILON);
}

static void QueryLeaf(const Tree *t, PetscInt leaf, Query *q)
{
  const PetscReal *restrict x       = t->x + GramAt(leaf, t->dim, 0) * LEAF;
  const PetscInt *restrict position = t->position + GramAt(leaf, LEAF, 0);
  PetscReal distance[LEAF];

  for (int k = 0; k < LEAF; k++) distance[k] = (x[k] - q->x[0]) * (x[k] - q->x[0]);
  for (PetscInt c = 1; c < t->dim; c++) {
    const PetscReal xc = q->x[c];

    x += LEAF;
    for (int k = 0; k < LEAF; k++) distance[k] += (x[k] - xc) * (x[k] - xc);
  }
  for (int k = 0; k < LEAF; k++) {
    const Candidate candidate = {distance[k], position[k]};

    if (position[k] < q->position && Nearer(candidate, q->heap[0])) QueryOffer(q, candidate);
  }
}

static void QuerySubtree(const Tree *t, PetscInt root, PetscReal distance, Query *q)
{
  struct {
    PetscInt  node;
    PetscReal distance;
  } stack[8 * sizeof(PetscInt)]; /* one a level, and the last two */
  int top = 0;

  if (t->first[root] >= q->position) return;
  stack[top].node       = root;
  stack[top++].distance = distance;
  while (top) {
    const PetscInt node = stack[--top].node;

    if (stack[top].distance > q->heap[0].distance) continue;
    if (node >= t->n_leaves) QueryLeaf(t, node - t->n_leaves, q);
    else {
      PetscReal to[2];
      int       nearer;

      BoxDistances(t, node, q->x, to);
      nearer = to[1] < to[0];
      for (int turn = 0; turn < 2; turn++) { /* the nearer child goes on top */
        const int child = turn ? nearer : 1 - nearer;

        if (t->first[2 * node + child] >= q->position || to[child] > q->heap[0].distance) continue;
        stack[top].node       = 2 * node + child;
        stack[top++].distance = to[child];
      }
    }
  }
}

/* From the leaf of point i up: the other half of every node above it. */
static void QueryRun(const Tree *t, PetscInt i, Query *q)
{
  PetscInt node = t->n_leaves + LeafOf(t, i);

  for (PetscInt k = 0; k < q->m; k++) q->heap[k] = (Candidate){INFINITY, LATEST};
  if (!q->m) return;
  QueryLeaf(t, node - t->n_leaves, q);
  for (; node > 1; node /= 2) {
    PetscReal to[2];

    BoxDistances(t, node / 2, q->x, to);
    QuerySubtree(t, node ^ 1, to[(node ^ 1) & 1], q);
  }
}

PetscErrorCode GramVecchiaSetNeighbours(GramVecchia v, PetscInt m)
{
  PetscReal *x;
  Tree       tree;
  Query      query;

  PetscFunctionBegin;
  PetscCheck(m >= 0, v->comm, PETSC_ERR_ARG_OUTOFRANGE, "%" PetscInt_FMT " neighbours < 0", m);
  PetscCall(PetscFree(v->columns));
  v->m = PetscMax(PetscMin(m, v->n - 1), 0);
  PetscCall(PetscMalloc1(GramAt(v->n_local, v->m, 0), &v->columns));
  if (!v->m) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(GramPointsAllGather(v->points, v->scale, &x));
  PetscCall(PetscLogEventBegin(GRAM_Neighbours, 0, 0, 0, 0));
  PetscCall(TreeCreate(v->dim, v->n, x, v->position, &tree));
  PetscCall(PetscMalloc1(v->m, &query.heap));
  for (PetscInt i = v->start; i < v->start + v->n_local; i++) {
    PetscInt *columns = v->columns + GramAt(i - v->start, v->m, 0);

    query.position = v->position[i];
    query.m        = PetscMin(v->m, query.position);
    query.x        = x + GramAt(i, v->dim, 0);
    QueryRun(&tree, i, &query);
    for (PetscInt k = 0; k < query.m; k++) columns[k] = v->order[query.heap[k].position];
    PetscCall(PetscSortInt(query.m, columns));
  }
  PetscCall(PetscFree(query.heap));
  PetscCall(TreeDestroy(&tree));
  PetscCall(PetscFree(x));
  PetscCall(PetscLogEventEnd(GRAM_Neighbours, 0, 0, 0, 0));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramVecchiaGetNeighbours(GramVecchia v, PetscInt i, PetscInt *n, const PetscInt **columns)
{
  PetscFunctionBegin;
  *n       = PetscMin(v->m, v->position[v->start + i]);
  *columns = v->columns + GramAt(i, v->m, 0);
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramVecchiaGetOrder(GramVecchia v, const PetscInt **order)
{
  PetscFunctionBegin;
  *order = v->order;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramVecchiaCreate(GramPoints points, const PetscReal *scale, GramVecchia *vecchia)
{
  GramVecchia v;
  PetscReal  *x;

  PetscFunctionBegin;
  PetscCall(RegisterEvents());
  PetscCall(PetscNew(&v));
  v->points = points;
  PetscCall(GramPointsGetSizes(points, &v->comm, &v->dim, &v->n, &v->n_local, &v->start));
  for (PetscInt c = 0; c < v->dim; c++) v->scale[c] = scale ? scale[c] : 1;
  PetscCall(PetscMalloc2(v->n, &v->order, v->n, &v->position));
  PetscCall(GramPointsAllGather(points, v->scale, &x));
  PetscCall(PetscLogEventBegin(GRAM_VoxelOrder, 0, 0, 0, 0));
  PetscCall(GramVoxelOrder(v->dim, v->n, x, v->order));
  for (PetscInt k = 0; k < v->n; k++) v->position[v->order[k]] = k;
  PetscCall(PetscLogEventEnd(GRAM_VoxelOrder, 0, 0, 0, 0));
  PetscCall(PetscFree(x));
  *vecchia = v;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramVecchiaDestroy(GramVecchia *vecchia)
{
  GramVecchia v = *vecchia;

  PetscFunctionBegin;
  if (!v) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscFree2(v->order, v->position));
  PetscCall(PetscFree(v->columns));
  PetscCall(PetscFree(*vecchia));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- the factor */

/* Rows of [F delta], r + 1 numbers each, the rows of a point together: those of other ranks in halo; of this rank's,
   which the caller has by columns, what is needed now in a cache. */
typedef struct {
  PetscInt         r, ldf, b; /* b rows a point */
  const PetscReal *F, *delta;
  PetscInt        *at;             /* [n] which of halo or of cache a point is, -1: none */
  PetscReal       *halo, *cache;   /* [n_halo][b][r + 1], [capacity][b][r + 1] */
  PetscInt         held, capacity; /* points of the cache */
  PetscInt        *holds;          /* [capacity] which they are */
} Rows;

static inline PetscBool Owned(GramVecchia v, PetscInt j)
{
  return (PetscBool)(j >= v->start && j < v->start + v->n_local);
}

static inline PetscInt RowsWidth(const Rows *rows) { return rows->b * (rows->r + 1); }

/* those of point i */
static void RowPack(const Rows *rows, PetscInt i, PetscReal *packed)
{
  for (PetscInt k = i * rows->b; k < (i + 1) * rows->b; k++, packed += rows->r + 1) {
    for (PetscInt c = 0; c < rows->r; c++) packed[c] = rows->F[GramAt(c, rows->ldf, k)];
    packed[rows->r] = rows->delta[k];
  }
}

/* Which points of other ranks are neighbours here, ascending: at says where in that list. */
static PetscErrorCode HaloFind(GramVecchia v, PetscInt at[], PetscInt *n, PetscInt **halo)
{
  PetscFunctionBegin;
  for (PetscInt j = 0; j < v->n; j++) at[j] = -1;
  *n = 0;
  for (PetscInt i = 0; i < v->n_local; i++) {
    const PetscInt *columns;
    PetscInt        count;

    PetscCall(GramVecchiaGetNeighbours(v, i, &count, &columns));
    for (PetscInt k = 0; k < count; k++) {
      if (Owned(v, columns[k]) || !at[columns[k]]) continue;
      at[columns[k]] = 0;
      (*n)++;
    }
  }
  PetscCall(PetscMalloc1(*n, halo));
  *n = 0;
  for (PetscInt j = 0; j < v->n; j++) {
    if (at[j] < 0) continue;
    at[j]           = *n;
    (*halo)[(*n)++] = j;
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Only the rows of this rank that others want are packed: the forest that counts them becomes one of packed rows. */
static PetscErrorCode HaloExchange(GramVecchia v, PetscLayout layout, PetscInt n_halo, const PetscInt halo[],
                                   Rows *rows)
{
  PetscSF            sf;
  const PetscInt    *wanted;
  const PetscSFNode *owners;
  PetscSFNode       *packed_owners;
  PetscInt           n_packed = 0, *packed_at, *theirs;
  PetscReal         *packed;
  MPI_Datatype       row;

  PetscFunctionBegin;
  PetscCall(PetscSFCreate(v->comm, &sf));
  PetscCall(PetscSFSetGraphLayout(sf, layout, n_halo, NULL, PETSC_OWN_POINTER, halo));
  PetscCall(PetscSFComputeDegreeBegin(sf, &wanted));
  PetscCall(PetscSFComputeDegreeEnd(sf, &wanted));
  PetscCall(PetscMalloc2(v->n_local, &packed_at, n_halo, &theirs));
  for (PetscInt i = 0; i < v->n_local; i++) packed_at[i] = wanted[i] ? n_packed++ : -1;
  PetscCall(PetscMalloc1(GramAt(n_packed, RowsWidth(rows), 0), &packed));
  for (PetscInt i = 0; i < v->n_local; i++) {
    if (packed_at[i] >= 0) RowPack(rows, i, packed + GramAt(packed_at[i], RowsWidth(rows), 0));
  }
  PetscCall(PetscSFBcastBegin(sf, MPIU_INT, packed_at, theirs, MPI_REPLACE));
  PetscCall(PetscSFBcastEnd(sf, MPIU_INT, packed_at, theirs, MPI_REPLACE));
  PetscCall(PetscSFGetGraph(sf, NULL, NULL, NULL, &owners));
  PetscCall(PetscMalloc1(n_halo, &packed_owners));
  for (PetscInt k = 0; k < n_halo; k++)
    packed_owners[k] = (PetscSFNode){.rank = owners[k].rank, .index = theirs[k]};
  PetscCall(PetscSFReset(sf));
  PetscCall(PetscSFSetGraph(sf, n_packed, n_halo, NULL, PETSC_OWN_POINTER, packed_owners, PETSC_OWN_POINTER));

  PetscCallMPI(MPI_Type_contiguous((int)RowsWidth(rows), MPIU_REAL, &row));
  PetscCallMPI(MPI_Type_commit(&row));
  PetscCall(PetscSFBcastBegin(sf, row, packed, rows->halo, MPI_REPLACE));
  PetscCall(PetscSFBcastEnd(sf, row, packed, rows->halo, MPI_REPLACE));
  PetscCallMPI(MPI_Type_free(&row));
  PetscCall(PetscFree(packed));
  PetscCall(PetscFree2(packed_at, theirs));
  PetscCall(PetscSFDestroy(&sf));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode RowsCreate(GramVecchia v, Rows *rows)
{
  const PetscInt width = RowsWidth(rows), fit = (PetscInt)(GRAM_VECCHIA_CACHE / (8.0 * width));
  PetscInt      *halo, n_halo;
  PetscLayout    layout;

  PetscFunctionBegin;
  PetscCall(PetscMalloc1(v->n, &rows->at));
  PetscCall(HaloFind(v, rows->at, &n_halo, &halo));
  PetscCall(PetscMalloc1(GramAt(n_halo, width, 0), &rows->halo));
  PetscCall(PetscLayoutCreateFromSizes(v->comm, v->n_local, v->n, 1, &layout));
  PetscCall(HaloExchange(v, layout, n_halo, halo, rows));
  PetscCall(PetscLayoutDestroy(&layout));
  PetscCall(PetscFree(halo));
  rows->held     = 0;
  rows->capacity = PetscMin(PetscMax(fit, v->m + 1), v->n_local);
  PetscCall(PetscMalloc2(GramAt(rows->capacity, width, 0), &rows->cache, rows->capacity, &rows->holds));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode RowsDestroy(Rows *rows)
{
  PetscFunctionBegin;
  PetscCall(PetscFree(rows->at));
  PetscCall(PetscFree(rows->halo));
  PetscCall(PetscFree2(rows->cache, rows->holds));
  GramMemoryTrim();
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* f [n][b][r + 1] = the rows of the points J of [F delta]. Points along the curve share neighbours: a full cache is simply emptied. */
static PetscErrorCode RowsGather(GramVecchia v, Rows *rows, PetscInt n, const PetscInt J[], PetscReal *f)
{
  const PetscInt width = RowsWidth(rows);

  PetscFunctionBegin;
  if (rows->held + n > rows->capacity) {
    while (rows->held) rows->at[rows->holds[--rows->held]] = -1;
  }
  for (PetscInt k = 0; k < n; k++, f += width) {
    const PetscBool owned = Owned(v, J[k]);

    if (owned && rows->at[J[k]] < 0) {
      RowPack(rows, J[k] - v->start, rows->cache + GramAt(rows->held, width, 0));
      rows->holds[rows->held] = J[k];
      rows->at[J[k]]          = rows->held++;
    }
    PetscCall(PetscArraycpy(f, (owned ? rows->cache : rows->halo) + GramAt(rows->at[J[k]], width, 0), width));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* S (lower triangle) = K_JJ - F_J F_J' + diag(delta_J) + shift mean(diag S / d) diag(d), d [n] out: the diagonal of
   K_JJ, or of delta where that is 0. On few rows gemm is three times as fast as syrk, at twice the work. */
static PetscErrorCode Residual(Mat A, PetscInt r, PetscInt n, const PetscInt J[], const PetscReal *f,
                               PetscReal shift, PetscReal *S, PetscReal *d)
{
  const PetscReal    minus_one = -1, one = 1, *delta = f + r;
  const PetscBLASInt rows = (PetscBLASInt)n, rank = (PetscBLASInt)r, width = (PetscBLASInt)r + 1;
  PetscReal          mean = 0;

  PetscFunctionBegin;
  PetscCall(GramMatGetKernelEntries(A, n, J, n, J, S, n));
  for (PetscInt k = 0; k < n; k++) {
    d[k] = S[GramAt(k, n, k)] > 0 ? S[GramAt(k, n, k)] : delta[GramAt(k, width, 0)];
    S[GramAt(k, n, k)] += delta[GramAt(k, width, 0)];
  }
  if (r && n > FEW)
    PetscCallBLAS("BLASsyrk", BLASsyrk_("L", "T", &rows, &rank, &minus_one, f, &width, &one, S, &rows));
  else if (r)
    PetscCallBLAS("BLASgemm",
                  BLASgemm_("T", "N", &rows, &rows, &rank, &minus_one, f, &width, f, &width, &one, S, &rows));
  for (PetscInt k = 0; k < n; k++) mean += S[GramAt(k, n, k)] / d[k] / (PetscReal)n;
  for (PetscInt k = 0; k < n; k++) S[GramAt(k, n, k)] += shift * PetscMax(mean, PETSC_MACHINE_EPSILON) * d[k];
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* S = L L' of the rows J, the last b of them those of one point, and for each of these, the k-th of J, g = L_k^-T e_k with
   L_k the leading block up to it: S_k g = e_k / g_k. g [b][n]. Pivots below the rounding of K are noise: shift. */
static PetscErrorCode Block(Mat A, PetscInt r, PetscInt b, PetscInt n, const PetscInt J[], const PetscReal *f,
                            PetscReal *S, PetscReal *d, PetscReal *g, PetscBool *shifted)
{
  const PetscReal    unit = 1;
  const PetscBLASInt rows = (PetscBLASInt)n, one = 1;

  PetscFunctionBegin;
  *shifted = PETSC_FALSE;
  for (PetscReal shift = 0;; shift = shift > 0 ? 10 * shift : 1e-12) {
    PetscBLASInt info;
    PetscBool    sound;

    PetscCheck(shift < 1e30, PETSC_COMM_SELF, PETSC_ERR_FP,
               "Row %" PetscInt_FMT ": entries that are not finite", J[n - 1]);
    PetscCall(Residual(A, r, n, J, f, shift, S, d));
    PetscCallBLAS("LAPACKpotrf", LAPACKpotrf_("L", &rows, S, &rows, &info));
    sound = (PetscBool)!info;
    for (PetscInt k = 0; k < n && sound; k++) {
      const PetscReal root = S[GramAt(k, n, k)];

      sound = (PetscBool)(root * root > (PetscReal)n * PETSC_MACHINE_EPSILON * d[k]);
    }
    if (sound) break;
    *shifted = PETSC_TRUE;
  }
  for (PetscInt p = 0; p < b; p++, g += n) {
    const PetscBLASInt k = (PetscBLASInt)(n - b + p + 1);

    PetscCall(PetscArrayzero(g, n));
    g[k - 1] = 1;
    PetscCallBLAS("BLAStrsm", BLAStrsm_("L", "L", "T", "N", &k, &one, &unit, S, &rows, g, &k));
  }
  PetscCall(PetscLogFlops((PetscLogDouble)n * (PetscLogDouble)n * (r + n / 3. + b)));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* row k of a point has the numbers of its neighbours and its own up to k */
static PetscErrorCode Allocate(GramVecchia v, Mat A, PetscInt b, Mat *G)
{
  PetscInt *diagonal, *other;

  PetscFunctionBegin;
  PetscCall(PetscCalloc2(v->n_local * b, &diagonal, v->n_local * b, &other));
  for (PetscInt i = 0; i < v->n_local; i++) {
    const PetscInt *columns;
    PetscInt        count, owned = 0;

    PetscCall(GramVecchiaGetNeighbours(v, i, &count, &columns));
    for (PetscInt k = 0; k < count; k++) owned += Owned(v, columns[k]);
    for (PetscInt p = 0; p < b; p++) {
      diagonal[i * b + p] = owned * b + p + 1;
      other[i * b + p]    = (count - owned) * b;
    }
  }
  PetscCall(MatCreate(PetscObjectComm((PetscObject)A), G));
  PetscCall(MatSetSizes(*G, v->n_local * b, v->n_local * b, v->n * b, v->n * b));
  PetscCall(MatSetType(*G, MATAIJ));
  PetscCall(MatSeqAIJSetPreallocation(*G, 0, diagonal));
  PetscCall(MatMPIAIJSetPreallocation(*G, 0, diagonal, 0, other));
  PetscCall(MatSetOption(*G, MAT_NO_OFF_PROC_ENTRIES, PETSC_TRUE));
  PetscCall(PetscFree2(diagonal, other));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* W (rows first .. first + n - 1 of a matrix by columns, n_local each) = strip [n][r] */
static void StripWrite(PetscInt n, PetscInt r, const PetscReal *strip, PetscInt first, PetscInt n_local,
                       PetscReal *W)
{
  for (PetscInt c = 0; c < r; c++) {
    for (PetscInt i = 0; i < n; i++) W[GramAt(c, n_local, first + i)] = strip[GramAt(i, r, c)];
  }
}

PetscErrorCode GramVecchiaFactor(GramVecchia v, Mat A, PetscInt r, const PetscReal *F, PetscInt ldf,
                                 const PetscReal *delta, Mat *G, PetscReal *W, PetscReal *logdet,
                                 PetscInt *shifted)
{
  const PetscReal    one = 1, zero = 0;
  const PetscBLASInt rank = (PetscBLASInt)r, width = (PetscBLASInt)r + 1, step = 1;
  Rows               rows = {.r = r, .ldf = ldf, .F = F, .delta = delta};
  PetscInt          *points, *J, b, most, strip_rows, held = 0; /* rows in strip */
  PetscReal         *f, *S, *d, *g, *strip, unit[1 + GRAM_MAX_DIM], sums[2] = {0, 0};

  PetscFunctionBegin;
  PetscCall(PetscLogEventBegin(GRAM_Vecchia, A, 0, 0, 0));
  PetscCall(GramMatGetBlock(A, &b, unit, NULL));
  rows.b     = b;
  most       = (v->m + 1) * b;
  strip_rows = PetscMax(STRIP, b);
  PetscCall(Allocate(v, A, b, G));
  PetscCall(RowsCreate(v, &rows));
  PetscCall(PetscMalloc7(v->m + 1, &points, most, &J, GramAt(most, r + 1, 0), &f, GramAt(most, most, 0), &S,
                         most, &d, GramAt(b, most, 0), &g, GramAt(strip_rows, r, 0), &strip));
  for (PetscInt i = 0; i < v->n_local; i++) {
    const PetscInt *columns;
    PetscInt        n, k = 0;
    PetscBool       mended;

    PetscCall(GramVecchiaGetNeighbours(v, i, &n, &columns));
    PetscCall(PetscArraycpy(points, columns, n));
    points[n++] = v->start + i;
    for (PetscInt c = 0; c < n; c++) {
      for (PetscInt p = 0; p < b; p++) J[k++] = points[c] * b + p;
    }
    PetscCall(RowsGather(v, &rows, n, points, f));
    PetscCall(Block(A, r, b, k, J, f, S, d, g, &mended));
    sums[1] += mended;
    for (PetscInt p = 0; p < b; p++) {
      const PetscInt last = k - b + p, row = J[last];
      PetscReal     *gp = g + GramAt(p, k, 0);
      PetscBLASInt   n_blas;

      PetscCall(PetscBLASIntCast(last + 1, &n_blas)); /* row of W = f' g, while f is in the cache */
      if (W && r)
        PetscCallBLAS("BLASgemv", BLASgemv_("N", &rank, &n_blas, &one, f, &width, gp, &step, &zero,
                                            strip + GramAt(held + p, r, 0), &step));
      for (PetscInt c = 0; c <= last; c++) gp[c] *= unit[c % b];
      sums[0] -= 2 * PetscLogReal(gp[last]);
      PetscCall(MatSetValues(*G, 1, &row, last + 1, J, gp, INSERT_VALUES));
    }
    if (!W || !r) continue;
    held += b;
    if (held + b <= strip_rows && i < v->n_local - 1) continue;
    StripWrite(held, r, strip, (i + 1) * b - held, v->n_local * b, W);
    held = 0;
  }
  PetscCall(PetscFree7(points, J, f, S, d, g, strip));
  PetscCall(RowsDestroy(&rows));
  PetscCall(MatAssemblyBegin(*G, MAT_FINAL_ASSEMBLY));
  PetscCall(MatAssemblyEnd(*G, MAT_FINAL_ASSEMBLY));
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, sums, 2, MPIU_REAL, MPIU_SUM, v->comm));
  *logdet = sums[0];
  if (shifted) *shifted = (PetscInt)sums[1];
  PetscCall(PetscLogEventEnd(GRAM_Vecchia, A, 0, 0, 0));
  PetscFunctionReturn(PETSC_SUCCESS);
}
