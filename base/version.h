// The version of this build.
#pragma once

namespace firedrill {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace firedrill
