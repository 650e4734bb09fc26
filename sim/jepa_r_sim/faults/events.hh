// What an engine saw of a fault: cycles in which things happened first, -1 if they never did.
// The same fields, in the same order, are EVENT in engine.py.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

struct Event {
  int32_t diverged = -1;   // a compared output differs from the golden run
  int32_t requested = -1;  // a wrong value would leave, were nothing held back
  int32_t alert = -1;
  int32_t stopped = -1;   // the design stopped by itself
  int32_t omitted = -1;   // the golden run releases something, this one does not
  int32_t released = -1;  // a wrong value leaves
  int32_t matched = -1;   // the state is that of the golden run again
  int32_t end = -1;       // last cycle that was looked at
  int32_t place = -1;     // of the wrong value: its place among the observed outputs,
  uint32_t expected = 0;  // the golden run's value,
  uint32_t found = 0;     // and the one that left
};

template <typename T> std::vector<T> read_file(const std::string& name) {
  FILE* file = std::fopen(name.c_str(), "rb");
  if (!file) {
    std::perror(name.c_str());
    std::exit(1);
  }
  std::fseek(file, 0, SEEK_END);
  std::vector<T> values(std::ftell(file) / sizeof(T));
  std::rewind(file);
  const size_t count = std::fread(values.data(), sizeof(T), values.size(), file);
  std::fclose(file);
  if (count != values.size()) std::exit(1);
  return values;
}

template <typename T> void write_file(const std::string& name, const std::vector<T>& values) {
  FILE* file = std::fopen(name.c_str(), "wb");
  if (!file || std::fwrite(values.data(), sizeof(T), values.size(), file) != values.size() ||
      std::fclose(file) != 0) {
    std::perror(name.c_str());
    std::exit(1);
  }
}
