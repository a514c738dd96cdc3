# Read by ctest before it runs: makes one test of each suite of a test binary. The tests of a suite run in one
# process, where they share what it takes longest to start: a server, or the binary under a sanitizer.
# In: BINARY, PREFIX, LABEL.
if(NOT EXISTS "${BINARY}")
  # A test that fails because it is not built.
  add_test("${PREFIX}" "${BINARY}")
  return()
endif()
execute_process(COMMAND "${BINARY}" --gtest_list_tests OUTPUT_VARIABLE listed RESULT_VARIABLE code)
if(NOT code EQUAL 0)
  message(FATAL_ERROR "${BINARY} does not list its tests: ${code}\n${listed}")
endif()
# "Suite.", or "Suite.  # of what type"; its tests are indented.
string(REGEX MATCHALL "(^|\n)[A-Za-z0-9_/]+[.]" suites "${listed}")
foreach(suite IN LISTS suites)
  string(STRIP "${suite}" suite)
  string(REGEX REPLACE "[.]$" "" suite "${suite}")
  set(labels "${LABEL}")
  # Hundreds of processes each, killed one by one before each of their system calls.
  if(suite MATCHES "(CrashTest|DiesWithItTest)$")
    list(APPEND labels every_step)
  endif()
  add_test("${PREFIX}.${suite}" "${BINARY}" "--gtest_filter=${suite}.*")
  set_tests_properties("${PREFIX}.${suite}" PROPERTIES LABELS "${labels}" TIMEOUT 900)
endforeach()
