// The tables that a statement of SQL names, by its words: for MySQL always, and for PostgreSQL
// where its parser has no answer.
#pragma once

#include <string>
#include <vector>

#include "injector/wire/sql_words.h"

namespace firedrill::wire {

// Adds each once, as `name` or `schema.name`, in small letters. What WITH defines is taken for a
// table, and so may be a word of a statement that is not known.
void AddTablesByWords(Dialect dialect, absl::string_view text, std::vector<std::string>* tables);

// A word or a name without its quotes, in small letters.
std::string Plain(const Token& token);

void AddOnce(std::vector<std::string>* all, std::string one);

}  // namespace firedrill::wire
