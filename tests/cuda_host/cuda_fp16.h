/* CUDA on the host: half precision, stored as its bits and rounded as IEEE 754 says. */
#pragma once

#include "cuda_runtime.h"

struct __half {
  unsigned short bits;
};
struct alignas(4) __half2 {
  __half x, y;
};

inline __half         __ushort_as_half(unsigned short bits) { return {bits}; }
inline unsigned short __half_as_ushort(__half a) { return a.bits; }

/* exact: the bits as those of a float are 2^-112 times the value, subnormal numbers included */
inline float __half2float(__half a)
{
  const float magnitude = __uint_as_float((a.bits & 0x7fffu) << 13) * 0x1p112f;
  const float value = magnitude < 65536 ? magnitude : __uint_as_float((a.bits & 0x7fffu) << 13 | 0x7f800000u);

  return a.bits & 0x8000u ? -value : value;
}

/* to nearest, ties to even */
inline __half __float2half_rn(float a)
{
  const uint32_t bits = __float_as_uint(a), sign = bits >> 16 & 0x8000u;
  uint32_t       x = bits & 0x7fffffffu;

  if (x > 0x7f800000u) x = 0x7e00;       /* NaN */
  else if (x >= 0x477ff000u) x = 0x7c00; /* 65520: infinity */
  else if (x < 0x38800000u)
    x = __float_as_uint(__uint_as_float(x) + 0.5f) - 0x3f000000u; /* multiples of 2^-24 */
  else x = (x - 0x38000000u + 0xfff + (x >> 13 & 1)) >> 13;
  return {(unsigned short)(sign | x)};
}

inline __half  __float2half(float a) { return __float2half_rn(a); }
inline __half2 __floats2half2_rn(float a, float b) { return {__float2half_rn(a), __float2half_rn(b)}; }
inline __half2 __halves2half2(__half a, __half b) { return {a, b}; }
inline float2  __half22float2(__half2 a) { return {__half2float(a.x), __half2float(a.y)}; }
