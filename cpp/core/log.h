// llama.cpp's log. It is process-wide, so it is taken over, printed nowhere, and its errors are kept per thread:
// they become part of the exception that follows. PERSONAPLUG_LOG=1 in the environment sends every line to stderr.
// One thing escapes it: a grammar that llama.cpp cannot read it prints to stderr itself. Nearly all of these never come
// to it (grammar_parser.h).
#pragma once

#include <string>

namespace personaplug {

void capture_log();

// Forgets what this thread's earlier calls logged; call before a llama.cpp call whose failure needs a reason.
void clear_log();

// The last error lines of this thread since clear_log(), joined by "; ", or `fallback` when there are none.
std::string logged_errors(const std::string &fallback);

} // namespace personaplug
