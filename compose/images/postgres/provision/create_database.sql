-- Outside any transaction. The builtin locale sorts the same whatever the image's C library is.
CREATE DATABASE app OWNER seawall_owner TEMPLATE template0 ENCODING 'UTF8'
  LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C.UTF-8';
REVOKE ALL ON DATABASE app FROM PUBLIC;
