// Asks RE2 what a pattern needs, and looks for four characters of it.
#include "injector/wire/literal_filter.h"

#include <re2/filtered_re2.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/strings/ascii.h"

namespace firedrill::wire {
namespace {

// Letters without their case; some signs fall together too, which only makes a "maybe" more.
uint32_t Gram(const char* at) {
  uint32_t gram;
  std::memcpy(&gram, at, sizeof(gram));
  return gram | 0x20202020;
}

}  // namespace

std::string RequiredLiteral(const std::string& pattern) {
  RE2::Options options;
  options.set_log_errors(false);
  re2::FilteredRE2 filtered(4);
  int id = 0;
  if (filtered.Add(pattern, options, &id) != RE2::NoError) return "";
  std::vector<std::string> atoms;
  filtered.Compile(&atoms);
  std::string longest;
  for (size_t left_out = 0; left_out < atoms.size(); ++left_out) {
    const std::string& atom = atoms[left_out];
    if (atom.size() <= longest.size() ||
        !std::all_of(atom.begin(), atom.end(), [](char c) { return absl::ascii_isascii(c); })) {
      continue;
    }
    // Required is what there is no match without, whatever else there is.
    std::vector<int> others;
    for (size_t i = 0; i < atoms.size(); ++i) {
      if (i != left_out) others.push_back(static_cast<int>(i));
    }
    std::vector<int> potential;
    filtered.AllPotentials(others, &potential);
    if (potential.empty()) longest = atom;
  }
  return longest;
}

void LiteralFilter::Add(absl::string_view literal) {
  // The end of a name says more than its beginning. Wherever it stands in a text, one of four
  // grams in a row stands at a place that is looked at.
  const size_t grams = std::min(literal.size() - kGram + 1, kGram);
  stride_ = std::min(stride_, grams);
  const absl::string_view end = literal.substr(literal.size() - kGram + 1 - grams);
  for (size_t i = 0; i < grams; ++i) {
    const uint32_t place = (Gram(end.data() + i) * 0x9E3779B1U) >> (32 - kBits);
    known_[place / 64] |= uint64_t{1} << (place % 64);
  }
}

bool LiteralFilter::MayContainAny(absl::string_view text) const {
  uint32_t bytes = 0;
  size_t at = 0;
  for (; at + kGram <= text.size(); at += stride_) {
    const uint32_t gram = Gram(text.data() + at);
    bytes |= gram;
    const uint32_t place = (gram * 0x9E3779B1U) >> (32 - kBits);
    if ((known_[place / 64] >> (place % 64) & 1) != 0) return true;
  }
  for (; at < text.size(); ++at) bytes |= static_cast<unsigned char>(text[at]);
  // Beyond ASCII other letters may count as the same without case.
  return (bytes & 0x80808080) != 0;
}

}  // namespace firedrill::wire
