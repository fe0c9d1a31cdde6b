SELECT
    CASE g.grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(g.grantee) END,
    g.privilege_type,
    g.is_grantable
FROM pg_class AS c
CROSS JOIN LATERAL aclexplode(c.relacl) AS g
WHERE c.oid = %(oid)s AND g.grantee <> c.relowner
ORDER BY 1, 2
