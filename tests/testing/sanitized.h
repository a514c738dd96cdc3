// Whether a sanitizer is at work: what races a real server for time is not run under one.
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FIREDRILL_SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FIREDRILL_SANITIZED
#endif
#endif

namespace firedrill {

#ifdef FIREDRILL_SANITIZED
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace firedrill
