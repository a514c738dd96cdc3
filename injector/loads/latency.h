// The buckets of latency histograms: linear within each power of two, at most 6.25 % wide.
#pragma once

#include <bit>
#include <cstdint>

namespace firedrill {

// The upper bound (inclusive, in microseconds) of the bucket that holds `micros`.
inline uint64_t LatencyBound(uint64_t micros) {
  if (micros < 32) return micros;
  const int shift = std::bit_width(micros) - 5;  // 16 buckets between two powers of two.
  return (((micros >> shift) + 1) << shift) - 1;
}

}  // namespace firedrill
