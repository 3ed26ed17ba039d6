-- The role of the web workers: it reads tokens, and notes who fetched them. Accounts, keys and certificates it cannot see.
-- Choose another password.
CREATE ROLE acme_web LOGIN PASSWORD 'change-me';
GRANT SELECT ON acme_middleware_token TO acme_web;
GRANT SELECT, INSERT, DELETE ON acme_middleware_fetch TO acme_web;
