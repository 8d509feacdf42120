/* CUDA on the host: fibers that stand for the threads of a block, streams that may be lazy, and memory. */
#include "cuda_fp16.h"
#include "cuda_runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#if !defined(__x86_64__) || defined(GRAM_CUDA_HOST_UCONTEXT)
  #define GRAM_HOST_UCONTEXT 1
  #include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
  #include <sanitizer/asan_interface.h>
  #include <sanitizer/common_interface_defs.h>
#endif

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <utility>
#include <vector>

static uint64_t Environment(const char *name, uint64_t otherwise)
{
  const char *value = getenv(name);

  return value && *value ? strtoull(value, nullptr, 10) : otherwise;
}

/* ---- fibers */

#define WARP       32
#define MOST       1024 /* threads of a block */
#define GUARD      4096
#define AT_BARRIER (UINT64_MAX - 1)
#define ENDED      UINT64_MAX
#if defined(__SANITIZE_ADDRESS__)
  #define STACK ((size_t)256 << 10) /* frames have red zones */
#else
  #define STACK ((size_t)64 << 10)
#endif

struct Warp;

struct Fiber {
#if defined(GRAM_HOST_UCONTEXT)
  ucontext_t context;
#else
  void *stack_pointer;
#endif
  uint64_t wait; /* for this generation of its warp, or AT_BARRIER or ENDED */
  Warp    *warp;
  unsigned lane;
  uint3    thread;
  /* for AddressSanitizer */
  void       *fake;
  const void *bottom;
  size_t      size;
};

struct Warp {
  Fiber      *lanes;
  int         n, at;      /* lanes that there are; where in the order the running one stands */
  int         arrived;    /* at the meeting that goes on */
  uint64_t    generation; /* meetings that are over */
  const char *what;
  uint64_t    values[2][WARP]; /* of this meeting and of the last, which late lanes have still to read */
  int         order[WARP];
};

static Fiber                        fibers[MOST], scheduler, *running = &scheduler;
static Warp                         warps[MOST / WARP];
static int                          n_fibers; /* made so far */
static const char                  *kernel_name;
static const std::function<void()> *kernel_body;
static uint64_t                     random_state;

uint3 threadIdx, blockIdx;
dim3  blockDim, gridDim;

/* splitmix64 (Steele et al. 2014), below n */
static unsigned Random(unsigned n)
{
  uint64_t z = random_state += 0x9E3779B97F4A7C15u;

  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return (unsigned)(((z >> 32) * n) >> 32);
}

template <class T> static void Permute(T *list, unsigned n)
{
  for (unsigned i = n; i > 1; i--) std::swap(list[i - 1], list[Random(i)]);
}

#if !defined(GRAM_HOST_UCONTEXT)
/* Keeps what the ABI says survives a call, exchanges the stacks and returns on the other. All fibers come through here
   from one place, so that processors predict the return. */
extern "C" void GramHostSwitch(void **save, void *load) __attribute__((visibility("hidden")));
asm(R"(
  .text
  .globl  GramHostSwitch
  .hidden GramHostSwitch
  .type   GramHostSwitch, @function
GramHostSwitch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq  %rsp, (%rdi)
  movq  %rsi, %rsp
  popq  %r15
  popq  %r14
  popq  %r13
  popq  %r12
  popq  %rbx
  popq  %rbp
  ret
  .size   GramHostSwitch, .-GramHostSwitch
)");
#endif

static inline void Switch(Fiber *from, Fiber *to)
{
  running   = to;
  threadIdx = to->thread;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from->fake, to->bottom, to->size);
#endif
#if defined(GRAM_HOST_UCONTEXT)
  swapcontext(&from->context, &to->context);
#else
  GramHostSwitch(&from->stack_pointer, to->stack_pointer);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from->fake, nullptr, nullptr);
#endif
}

static void PrintThread(const Fiber *f)
{
  fprintf(stderr, " (%u, %u, %u)", f->thread.x, f->thread.y, f->thread.z);
}

static void Prologue()
{
  fprintf(stderr, "cuda_host: %s, block (%u, %u, %u): ", kernel_name, blockIdx.x, blockIdx.y, blockIdx.z);
}

[[noreturn]] static void ReportMeeting(const Warp *w)
{
  Prologue();
  fprintf(stderr, "%d of %d lanes of warp %d reached %s, but not thread", w->arrived, WARP, (int)(w - warps),
          w->what);
  for (int l = 0; l < w->n; l++) {
    if (w->lanes[l].wait < AT_BARRIER) continue;
    PrintThread(w->lanes + l);
    fprintf(stderr, w->lanes[l].wait == ENDED ? ", which ended\n" : ", which is at __syncthreads\n");
    abort();
  }
  fprintf(stderr, "s that the block does not have\n");
  abort();
}

/* The running fiber waits: on to the next lane of its warp that can go on, or, all waiting for other warps, to them. */
static inline void Yield(Fiber *f)
{
  Warp *w = f->warp;

  for (int tried = 0; tried < w->n; tried++) {
    w->at        = w->at + 1 < w->n ? w->at + 1 : 0;
    Fiber *other = w->lanes + w->order[w->at];
    if (other->wait <= w->generation) {
      Switch(f, other);
      return;
    }
  }
  if (w->arrived) ReportMeeting(w);
  Switch(f, &scheduler);
}

const uint64_t *GramHostMeet(const char *what, uint64_t value, void (*last)(const uint64_t[]))
{
  Fiber    *f      = running;
  Warp     *w      = f->warp;
  uint64_t *values = w->values[w->generation & 1];

  if (!w->arrived) w->what = what;
  else if (w->what != what && strcmp(w->what, what) != 0) {
    Prologue();
    fprintf(stderr, "lanes of warp %d meet at %s and at %s\n", (int)(w - warps), w->what, what);
    abort();
  }
  values[f->lane] = value;
  if (++w->arrived < WARP) {
    f->wait = w->generation + 1;
    Yield(f);
  } else { /* the last to arrive goes on at once */
    w->arrived = 0;
    if (last) last(values);
    w->generation++;
  }
  return values;
}

unsigned GramHostLane() { return running->lane; }

void GramHostCheckMask(const char *what, unsigned mask)
{
  if (mask == 0xffffffffu) return;
  Prologue();
  fprintf(stderr, "%s with mask %08x: only whole warps can meet here\n", what, mask);
  abort();
}

static void Reorder(const uint64_t *)
{
  Warp *w = running->warp;

  Permute(w->order, (unsigned)w->n);
  for (w->at = 0; w->lanes + w->order[w->at] != running;) w->at++;
}

void __syncwarp(unsigned mask)
{
  GramHostCheckMask("__syncwarp", mask);
  (void)GramHostMeet("__syncwarp", 0, Reorder);
}

void __syncthreads()
{
  running->wait = AT_BARRIER;
  Yield(running);
}

/* A fiber lives as long as the process: one thread of a block after the other. */
static void FiberMain()
{
  Fiber *f = running;

#if defined(__SANITIZE_ADDRESS__)
  const void *bottom;
  size_t      size;

  __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
  if (!scheduler.bottom) { /* the first of all comes from there */
    scheduler.bottom = bottom;
    scheduler.size   = size;
  }
#endif
  for (;;) {
    (*kernel_body)();
    f->wait = ENDED;
    Yield(f);
  }
}

static void FiberCreate(Fiber *f, int i)
{
  static char *stacks;

  if (!stacks) {
    void *room = mmap(nullptr, MOST * (GUARD + STACK), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (room == MAP_FAILED) abort();
    stacks = (char *)room;
  }
  char *bottom = stacks + (size_t)i * (GUARD + STACK) + GUARD;

  (void)mprotect(bottom - GUARD, GUARD, PROT_NONE); /* an overflow ends here, not in the neighbour's frames */
  f->bottom = bottom;
  f->size   = STACK;
  f->warp   = warps + i / WARP;
  f->lane   = (unsigned)(i % WARP);
#if defined(GRAM_HOST_UCONTEXT)
  getcontext(&f->context);
  f->context.uc_stack.ss_sp   = bottom;
  f->context.uc_stack.ss_size = STACK;
  f->context.uc_link          = nullptr;
  makecontext(&f->context, FiberMain, 0);
#else
  /* six registers, where to return to, and an empty frame above; tops are spread over the sets of a cache */
  void **top = (void **)(bottom + STACK - (size_t)(i % WARP) * 320);

  memset(top - 8, 0, 8 * sizeof *top);
  top[-2]          = (void *)FiberMain;
  f->stack_pointer = top - 8;
#endif
}

static void RunBlock(int n)
{
  const unsigned n_warps = (unsigned)(n + WARP - 1) / WARP;
  unsigned       order[MOST / WARP];

  for (;;) {
    int waiting = 0, ended = 0;

    for (unsigned w = 0; w < n_warps; w++) order[w] = w;
    Permute(order, n_warps);
    for (int i = 0; i < n; i++) fibers[i].wait = 0;
    for (unsigned k = 0; k < n_warps; k++) {
      Warp *w = warps + order[k];

      Permute(w->order, (unsigned)w->n);
      w->at = 0;
      Switch(&scheduler, w->lanes + w->order[0]);
    }
    for (int i = 0; i < n; i++) (fibers[i].wait == AT_BARRIER ? waiting : ended)++;
    if (!waiting) return;
    if (!ended) continue;
    Prologue();
    fprintf(stderr, "%d of %d threads reached __syncthreads, but not thread", waiting, n);
    for (int i = 0; i < n && ended; i++) {
      if (fibers[i].wait != ENDED) continue;
      PrintThread(fibers + i);
      ended = 0;
    }
    fprintf(stderr, ", which ended\n");
    abort();
  }
}

static void RunGrid(const char *name, dim3 grid, dim3 block, const std::function<void()> &body)
{
  static std::vector<unsigned> order;
  static uint64_t              launches;
  const int                    n        = (int)(block.x * block.y * block.z);
  const unsigned               n_blocks = grid.x * grid.y * grid.z;

  random_state = Environment("GRAM_CUDA_HOST_SEED", 1) * 0xD1342543DE82EF95u + launches++;
  kernel_name  = name;
  kernel_body  = &body;
  gridDim      = grid;
  blockDim     = block;
  for (; n_fibers < n; n_fibers++) FiberCreate(fibers + n_fibers, n_fibers);
  for (int i = 0; i < n; i++) {
    const unsigned k = (unsigned)i;

    fibers[i].thread = {k % block.x, k / block.x % block.y, k / block.x / block.y};
  }
  for (int first = 0; first < n; first += WARP) {
    Warp *w = warps + first / WARP;

    w->lanes = fibers + first;
    w->n     = n - first < WARP ? n - first : WARP;
    for (int l = 0; l < w->n; l++) w->order[l] = l;
  }
  order.resize(n_blocks);
  for (unsigned b = 0; b < n_blocks; b++) order[b] = b;
  Permute(order.data(), n_blocks);
  for (unsigned b : order) {
    blockIdx = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
    RunBlock(n);
  }
}

/* ---- the tensor core */

struct Fragment {
  unsigned a[4], b[2];
  float    c[4], d[4];
};

static void Unpack(unsigned word, double *lower, double *upper)
{
  *lower = __half2float(__ushort_as_half((unsigned short)(word & 0xffff)));
  *upper = __half2float(__ushort_as_half((unsigned short)(word >> 16)));
}

/* half a row of D, in the vectors of gcc and clang */
typedef double  Quad __attribute__((vector_size(32)));
typedef int64_t QuadBits __attribute__((vector_size(32)));
typedef int32_t QuadInts __attribute__((vector_size(16)));

/* d = a b + c, four sums of 17 terms */
static void SumTerms(const double a[16], const Quad b[16], const Quad *c, Quad *d)
{
  Quad     terms[17], sum = *c, most = *c > -*c ? *c : -*c, scale;
  QuadInts total  = {0};
  bool     finite = true;

  terms[16] = *c;
  for (int k = 0; k < 16; k++) {
    const Quad term = a[k] * b[k], size = term > -term ? term : -term;

    terms[k] = term;
    sum += term;
    most = most > size ? most : size;
  }
  for (int j = 0; j < 4; j++) finite = finite && isfinite(sum[j]);
  *d = sum;
  if (!finite) return;
  /* 2^24 over the power of two in most; only 0 is below 2^-200 */
  most  = most > 0x1p-200 ? most : 0x1p-200 + (Quad){0};
  scale = (Quad)((2 * 1023 + 24 - ((QuadBits)most >> 52)) << 52);
  for (int k = 0; k < 17; k++) total += __builtin_convertvector(terms[k] * scale, QuadInts);
  *d = __builtin_convertvector(total, Quad) / scale;
}

static void MultiplyAdd(const uint64_t fragments[])
{
  double a[16][16];
  Quad   b[2][16], c[2][16], d[2][16];

  for (int lane = 0; lane < WARP; lane++) {
    const Fragment *f = (const Fragment *)fragments[lane];
    const int       g = lane / 4, t = 2 * (lane % 4);

    for (int k = 0; k < 4; k++) {
      const int i = g + 8 * (k & 1), j = t + 8 * (k >> 1);

      Unpack(f->a[k], &a[i][j], &a[i][j + 1]);
    }
    for (int k = 0; k < 2; k++) {
      double lower, upper;

      Unpack(f->b[k], &lower, &upper);
      b[g / 4][t + 8 * k][g % 4]     = lower;
      b[g / 4][t + 8 * k + 1][g % 4] = upper;
    }
    for (int k = 0; k < 4; k++) c[t / 4][g + 8 * (k >> 1)][t % 4 + (k & 1)] = f->c[k];
  }
  for (int h = 0; h < 2; h++) {
    for (int i = 0; i < 16; i++) SumTerms(a[i], b[h], &c[h][i], &d[h][i]);
  }
  for (int lane = 0; lane < WARP; lane++) {
    Fragment *f = (Fragment *)fragments[lane];
    const int g = lane / 4, t = 2 * (lane % 4);

    for (int k = 0; k < 4; k++) f->d[k] = (float)d[t / 4][g + 8 * (k >> 1)][t % 4 + (k & 1)];
  }
}

void GramMma16816(float d[4], const unsigned a[4], unsigned b0, unsigned b1, const float c[4])
{
  Fragment f = {{a[0], a[1], a[2], a[3]}, {b0, b1}, {c[0], c[1], c[2], c[3]}, {0, 0, 0, 0}};

  (void)GramHostMeet("mma.sync", (uint64_t)(uintptr_t)&f, MultiplyAdd);
  memcpy(d, f.d, sizeof f.d);
}

/* ---- errors and devices */

static cudaError_t last_error = cudaSuccess;

static cudaError_t Return(cudaError_t error)
{
  if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
  return error;
}

#define HOST_ERROR(name, value, text) {name, #name, text},
static const struct {
  cudaError_t error;
  const char *name, *text;
} errors[] = {GRAM_HOST_ERRORS(HOST_ERROR)};

const char *cudaGetErrorName(cudaError_t error)
{
  for (const auto &e : errors) {
    if (e.error == error) return e.name;
  }
  return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error)
{
  for (const auto &e : errors) {
    if (e.error == error) return e.text;
  }
  return "unrecognized error code";
}

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

cudaError_t cudaPeekAtLastError() { return last_error; }

static int current_device;

static int    Devices() { return (int)Environment("GRAM_CUDA_HOST_DEVICES", 1); }
static size_t Capacity() { return (size_t)Environment("GRAM_CUDA_HOST_BYTES", (uint64_t)1 << 30); }

/* every call that needs a device begins with it */
#define NEEDS_DEVICE()                                    \
  do {                                                    \
    if (Devices() == 0) return Return(cudaErrorNoDevice); \
  } while (0)

cudaError_t cudaGetDeviceCount(int *count)
{
  *count = Devices();
  NEEDS_DEVICE();
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
  NEEDS_DEVICE();
  if (device < 0 || device >= Devices()) return Return(cudaErrorInvalidDevice);
  if (getenv("GRAM_CUDA_HOST_BROKEN")) return Return(cudaErrorDevicesUnavailable);
  current_device = device;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
  NEEDS_DEVICE();
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *prop, int device)
{
  NEEDS_DEVICE();
  if (device < 0 || device >= Devices()) return Return(cudaErrorInvalidDevice);
  *prop = cudaDeviceProp();
  (void)snprintf(prop->name, sizeof prop->name, "host emulation");
  prop->uuid.bytes[0] =
      (char)(device + atoi(getenv("GRAM_CUDA_HOST_FIRST") ? getenv("GRAM_CUDA_HOST_FIRST") : "0"));
  prop->uuid.bytes[15]              = 1;
  prop->major                       = 9;
  prop->minor                       = 0;
  prop->multiProcessorCount         = 4;
  prop->warpSize                    = WARP;
  prop->maxThreadsPerBlock          = MOST;
  prop->maxThreadsPerMultiProcessor = 2048;
  prop->clockRate                   = 1000000;
  prop->memoryClockRate             = 1000000;
  prop->memoryBusWidth              = 64;
  prop->l2CacheSize                 = 1 << 20;
  prop->regsPerBlock                = 65536;
  prop->regsPerMultiprocessor       = 65536;
  prop->totalGlobalMem              = Capacity();
  prop->sharedMemPerBlock           = 48 << 10;
  prop->sharedMemPerMultiprocessor  = 228 << 10;
  prop->sharedMemPerBlockOptin      = 227 << 10;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
  cudaDeviceProp    prop;
  const cudaError_t error = cudaGetDeviceProperties(&prop, device);

  if (error != cudaSuccess) return error;
  switch (attribute) {
  case cudaDevAttrMaxThreadsPerBlock: *value = prop.maxThreadsPerBlock; break;
  case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)prop.sharedMemPerBlock; break;
  case cudaDevAttrWarpSize: *value = prop.warpSize; break;
  case cudaDevAttrClockRate: *value = prop.clockRate; break;
  case cudaDevAttrMultiProcessorCount: *value = prop.multiProcessorCount; break;
  case cudaDevAttrComputeCapabilityMajor: *value = prop.major; break;
  case cudaDevAttrComputeCapabilityMinor: *value = prop.minor; break;
  case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)prop.sharedMemPerBlockOptin; break;
  case cudaDevAttrSingleToDoublePrecisionPerfRatio: *value = 2; break;
  default: return Return(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

/* ---- streams */

typedef std::shared_ptr<GramHostStream> Stream;

/* a place in a stream: its first `count` pieces of work */
struct Mark {
  Stream   stream;
  uint64_t count;
};

struct Work {
  std::vector<Mark>     after; /* in other streams */
  std::function<void()> run;
};

struct GramHostStream {
  int              device;
  bool             blocking; /* in order with the default stream */
  bool             destroyed;
  std::deque<Work> queue;
  uint64_t         done;
};

struct GramHostEvent {
  int                     device;
  bool                    timed;
  Mark                    mark; /* stream NULL: never recorded */
  std::shared_ptr<double> time; /* milliseconds, set when the mark is reached */
};

static std::vector<Stream> streams, default_streams; /* default_streams by device */

static Mark End(const Stream &s) { return {s, s->done + s->queue.size()}; }

static bool Reached(const Mark &mark) { return !mark.stream || mark.stream->done >= mark.count; }

static void RunTo(const Mark &mark);
static void Expose(bool yes);

static void RunOne(GramHostStream *s)
{
  /* what it waits for may wait for earlier work of this stream, which is done, never for this piece or later ones */
  for (const Mark &mark : s->queue.front().after) RunTo(mark);
  Expose(true);
  if (s->queue.front().run) s->queue.front().run();
  Expose(false);
  s->queue.pop_front();
  s->done++;
}

static void RunTo(const Mark &mark)
{
  while (!Reached(mark)) RunOne(mark.stream.get());
}

static Stream Default(int device)
{
  while ((int)default_streams.size() <= device)
    default_streams.push_back(Stream(new GramHostStream{(int)default_streams.size(), true, false, {}, 0}));
  return default_streams[(size_t)device];
}

/* NULL: no such stream */
static Stream Find(cudaStream_t stream)
{
  if (!stream) return Default(current_device);
  for (const Stream &s : streams) {
    if (s.get() == stream && !s->destroyed) return s;
  }
  return nullptr;
}

static void Enqueue(const Stream &s, Work work)
{
  const Stream all = Default(s->device);

  if (s == all) {
    for (const Stream &other : streams) {
      if (other->device == s->device && other->blocking) work.after.push_back(End(other));
    }
  } else if (s->blocking) work.after.push_back(End(all));
  s->queue.push_back(std::move(work));
  if (!Environment("GRAM_CUDA_HOST_LAZY", 0)) RunTo(End(s));
}

static void Synchronize(int device)
{
  RunTo(End(Default(device)));
  for (size_t k = 0; k < streams.size(); k++) {
    if (streams[k]->device == device) RunTo(End(streams[k]));
  }
}

void GramHostEnqueue(const char *name, dim3 grid, dim3 block, cudaStream_t stream, std::function<void()> body)
{
  const uint64_t threads = (uint64_t)block.x * block.y * block.z;
  const Stream   s       = Find(stream);

  if (Devices() == 0) (void)Return(cudaErrorNoDevice);
  else if (!s || s->device != current_device) (void)Return(cudaErrorInvalidResourceHandle);
  else if (!threads || threads > MOST || !grid.x || !grid.y || !grid.z || grid.x > INT32_MAX ||
           grid.y > 65535 || grid.z > 65535 || block.z > 64)
    (void)Return(cudaErrorInvalidConfiguration);
  else Enqueue(s, {{}, [name, grid, block, body = std::move(body)] { RunGrid(name, grid, block, body); }});
}

cudaError_t cudaDeviceSynchronize()
{
  NEEDS_DEVICE();
  Synchronize(current_device);
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
  NEEDS_DEVICE();
  streams.push_back(
      Stream(new GramHostStream{current_device, !(flags & cudaStreamNonBlocking), false, {}, 0}));
  *stream = streams.back().get();
  return cudaSuccess;
}

/* what is still in it runs with the rest of the device */
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
  const Stream s = Find(stream);

  NEEDS_DEVICE();
  if (!s || !stream) return Return(cudaErrorInvalidResourceHandle);
  s->destroyed = true;
  for (size_t k = streams.size(); k-- > 0;) {
    if (streams[k]->destroyed && streams[k]->queue.empty()) streams.erase(streams.begin() + (ptrdiff_t)k);
  }
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
  const Stream s = Find(stream);

  NEEDS_DEVICE();
  if (!s) return Return(cudaErrorInvalidResourceHandle);
  RunTo(End(s));
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
  const Stream s = Find(stream);

  NEEDS_DEVICE();
  if (!s || !event) return Return(cudaErrorInvalidResourceHandle);
  if (event->mark.stream) Enqueue(s, {{event->mark}, nullptr});
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
  NEEDS_DEVICE();
  *event = new GramHostEvent{current_device, !(flags & cudaEventDisableTiming), {nullptr, 0}, nullptr};
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
  if (!event) return Return(cudaErrorInvalidResourceHandle);
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
  const Stream s = Find(stream);

  NEEDS_DEVICE();
  if (!event || !s || s->device != event->device) return Return(cudaErrorInvalidResourceHandle);
  std::shared_ptr<double> time(new double(0)); /* the event may be gone or recorded again by then */
  event->time = time;
  event->mark = {s, End(s).count + 1};
  Enqueue(s, {{}, [time] {
                const auto now = std::chrono::steady_clock::now().time_since_epoch();

                *time = std::chrono::duration<double, std::milli>(now).count();
              }});
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
  if (!event) return Return(cudaErrorInvalidResourceHandle);
  RunTo(event->mark);
  return cudaSuccess;
}

/* each call that finds it not ready moves its stream on a little, so that a loop over this call ends */
cudaError_t cudaEventQuery(cudaEvent_t event)
{
  if (!event) return Return(cudaErrorInvalidResourceHandle);
  if (Reached(event->mark)) return cudaSuccess;
  RunOne(event->mark.stream.get());
  return cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin, cudaEvent_t end)
{
  if (!begin || !end || !begin->time || !end->time || !begin->timed || !end->timed)
    return Return(cudaErrorInvalidResourceHandle);
  if (!Reached(begin->mark) || !Reached(end->mark)) return cudaErrorNotReady;
  *milliseconds = (float)(*end->time - *begin->time);
  return cudaSuccess;
}

/* ---- memory */

struct Allocation {
  size_t bytes;
  int    device; /* -1: pinned, of the host */
};

/* What is left at the end is named: the sanitizers cannot see that it is lost. */
struct Allocations : std::map<const char *, Allocation> {
  ~Allocations()
  {
    size_t bytes = 0;

    for (const auto &a : *this) bytes += a.second.bytes;
    if (!empty()) fprintf(stderr, "cuda_host: %zu allocations, %zu bytes, never freed\n", size(), bytes);
  }
};

static Allocations allocations;

/* With AddressSanitizer, memory of devices can be touched by the work of streams alone, and by an MPI that reaches it. */
static void Expose(bool yes)
{
#if defined(__SANITIZE_ADDRESS__)
  yes = yes || getenv("GRAM_CUDA_HOST_AWARE");
  for (const auto &a : allocations) {
    if (a.second.device < 0) continue;
    if (yes) __asan_unpoison_memory_region(a.first, a.second.bytes);
    else __asan_poison_memory_region(a.first, a.second.bytes);
  }
#else
  (void)yes;
#endif
}

/* the allocation that p points into, or NULL */
static const std::pair<const char *const, Allocation> *Owner(const void *p)
{
  auto next = allocations.upper_bound((const char *)p);

  if (next == allocations.begin()) return nullptr;
  --next;
  return (size_t)((const char *)p - next->first) < next->second.bytes ? &*next : nullptr;
}

static bool OnDevice(const void *p)
{
  const auto *owner = Owner(p);

  return owner && owner->second.device >= 0;
}

static bool Pageable(const void *p) { return !Owner(p); }

/* bytes from p on are there, as far as that is known */
static bool Fits(const void *p, size_t bytes)
{
  const auto *owner = Owner(p);

  return !owner || (size_t)((const char *)p - owner->first) + bytes <= owner->second.bytes;
}

static size_t Used(int device)
{
  size_t used = 0;

  for (const auto &a : allocations) used += a.second.device == device ? a.second.bytes : 0;
  return used;
}

static cudaError_t Allocate(void **p, size_t bytes, int device)
{
  *p = nullptr;
  if (!bytes) return cudaSuccess;
  if (posix_memalign(p, 256, bytes) != 0) return Return(cudaErrorMemoryAllocation);
  memset(*p, 0xff, bytes);
  allocations[(const char *)*p] = {bytes, device};
  Expose(false);
  return cudaSuccess;
}

/* all that was asked for is done first: CUDA waits there too */
static cudaError_t Free(void *p, bool device)
{
  const auto a = allocations.find((const char *)p);

  NEEDS_DEVICE();
  if (!p) return cudaSuccess;
  if (a == allocations.end() || device != (a->second.device >= 0)) return Return(cudaErrorInvalidValue);
  for (int d = 0; d < Devices(); d++) Synchronize(d);
  Expose(true);
  allocations.erase(a);
  free(p);
  Expose(false);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
  NEEDS_DEVICE();
  *total     = Capacity();
  *available = *total - min(*total, Used(current_device));
  return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
  NEEDS_DEVICE();
  if (bytes > Capacity() - min(Capacity(), Used(current_device))) return Return(cudaErrorMemoryAllocation);
  return Allocate(p, bytes, current_device);
}

cudaError_t cudaFree(void *p) { return Free(p, true); }

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned)
{
  NEEDS_DEVICE();
  return Allocate(p, bytes, -1);
}

cudaError_t cudaFreeHost(void *p) { return Free(p, false); }

/* what is wrong with a copy; kind becomes what it is where that is left open */
static cudaError_t CheckCopy(const void *to, const void *from, size_t bytes, cudaMemcpyKind *kind)
{
  const bool     to_device = OnDevice(to), from_device = OnDevice(from);
  cudaMemcpyKind is = to_device ? (from_device ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice)
                                : (from_device ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost);

  NEEDS_DEVICE();
  if (!to || !from || !Fits(to, bytes) || !Fits(from, bytes)) return Return(cudaErrorInvalidValue);
  if (*kind != cudaMemcpyDefault && *kind != is) return Return(cudaErrorInvalidMemcpyDirection);
  *kind = is;
  return cudaSuccess;
}

/* copies between devices do not hold up the host */
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
  const Stream      s     = Default(current_device);
  const cudaError_t error = bytes ? CheckCopy(to, from, bytes, &kind) : cudaSuccess;

  if (error != cudaSuccess || !bytes) return error;
  Enqueue(s, {{}, [=] { memcpy(to, from, bytes); }});
  if (kind != cudaMemcpyDeviceToDevice) RunTo(End(s));
  return cudaSuccess;
}

/* Pinned memory is read when the copy runs. Other memory of the host is read now, and written before this returns. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
  const Stream      s     = Find(stream);
  const cudaError_t error = bytes ? CheckCopy(to, from, bytes, &kind) : cudaSuccess;

  if (error != cudaSuccess || !bytes) return error;
  if (!s) return Return(cudaErrorInvalidResourceHandle);
  if (Pageable(from)) {
    std::vector<char> copy((const char *)from, (const char *)from + bytes);

    Enqueue(s, {{}, [to, bytes, copy = std::move(copy)] { memcpy(to, copy.data(), bytes); }});
  } else Enqueue(s, {{}, [=] { memcpy(to, from, bytes); }});
  if (Pageable(to)) RunTo(End(s));
  return cudaSuccess;
}

cudaError_t cudaMemset(void *to, int value, size_t bytes)
{
  return cudaMemsetAsync(to, value, bytes, nullptr);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
  const Stream s = Find(stream);

  NEEDS_DEVICE();
  if (!bytes) return cudaSuccess;
  if (!s) return Return(cudaErrorInvalidResourceHandle);
  if (!Owner(to) || !Fits(to, bytes)) return Return(cudaErrorInvalidValue);
  Enqueue(s, {{}, [=] { memset(to, value, bytes); }});
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *p)
{
  const auto *owner = Owner(p);

  NEEDS_DEVICE();
  *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, (void *)p};
  if (owner) {
    const int device = owner->second.device;

    *attributes = {device < 0 ? cudaMemoryTypeHost : cudaMemoryTypeDevice, device < 0 ? 0 : device, (void *)p,
                   device < 0 ? (void *)p : nullptr};
  }
  return cudaSuccess;
}
