# Fails the build where an RPC does not say who may call it: cmake -DPROTOS=a.proto;b.proto -P check_roles.cmake
foreach(proto ${PROTOS})
  file(READ ${proto} text)
  string(REGEX REPLACE "//[^\n]*" "" text "${text}")
  # A list's separator means something else here.
  string(REPLACE ";" "," text "${text}")
  string(REGEX MATCHALL "[ \n]rpc [^{,]*[{,][^}]*" calls "${text}")
  foreach(call ${calls})
    if(NOT call MATCHES "{[^}]*option \\(role\\) = ROLE_[A-TV-Z]")
      string(REGEX MATCH "rpc [A-Za-z]+" name "${call}")
      message(FATAL_ERROR "${proto}: ${name} does not say who may call it: add "
              "option (role) = ROLE_...; to its body")
    endif()
  endforeach()
endforeach()
